// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <fnmatch.h>

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "nginx/directive.h"

namespace ringmx::nginx {

// Files that exist in a test alone, by their paths. The map must outlive what is made of it.
inline Files files_of(const std::map<std::string, std::string>& texts) {
  return {[&texts](const std::string& path, std::string& error) -> std::optional<std::string> {
            const auto found = texts.find(path);
            if (found != texts.end()) return found->second;
            error = "No such file or directory";
            return std::nullopt;
          },
          [&texts](const std::string& pattern) {
            std::vector<std::string> out;
            for (const auto& [path, text] : texts) {
              if (::fnmatch(pattern.c_str(), path.c_str(), FNM_PATHNAME) == 0) out.push_back(path);
            }
            return out;
          }};
}

}  // namespace ringmx::nginx
