// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <string>
#include <string_view>

#include "nginx/directive.h"

namespace ringmx::nginx {

// Those of this host.
[[nodiscard]] Files system_files();

// Makes a file that its owner alone can read: there may be keys of scripts in it. False if it can't be, or is
// there already; `error` says why.
[[nodiscard]] bool write_new_file(const std::string& path, std::string_view text, std::string& error);

}  // namespace ringmx::nginx
