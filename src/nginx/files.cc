// SPDX-License-Identifier: GPL-3.0-or-later
#include "nginx/files.h"

#include <fcntl.h>
#include <glob.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <fstream>
#include <system_error>

namespace ringmx::nginx {
namespace {

std::optional<std::string> read(const std::string& path, std::string& error) {
  // A configuration has some kilobytes; a device or a log would go on and on.
  constexpr std::size_t limit = 4 * 1024 * 1024;
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  std::string text;
  std::array<char, 16384> block;
  while (file && text.size() <= limit) {
    file.read(block.data(), block.size());
    text.append(block.data(), static_cast<std::size_t>(file.gcount()));
  }
  if (text.size() > limit) {
    error = "it has more than 4 MiB";
  } else if (!file.eof()) {
    error = std::generic_category().message(errno);
  } else {
    return text;
  }
  return std::nullopt;
}

std::vector<std::string> match(const std::string& pattern) {
  glob_t found{};
  std::vector<std::string> out;
  if (::glob(pattern.c_str(), 0, nullptr, &found) == 0)
    out.assign(found.gl_pathv, found.gl_pathv + found.gl_pathc);
  ::globfree(&found);
  return out;
}

}  // namespace

Files system_files() {
  return {read, match};
}

bool write_new_file(const std::string& path, std::string_view text, std::string& error) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  bool good = fd >= 0;
  while (good && !text.empty()) {
    const ssize_t n = ::write(fd, text.data(), text.size());
    good = n >= 0;
    if (good) text.remove_prefix(static_cast<std::size_t>(n));
  }
  if (!good) error = std::generic_category().message(errno);
  if (fd >= 0 && ::close(fd) != 0 && good) {
    error = std::generic_category().message(errno);
    return false;
  }
  return good;
}

}  // namespace ringmx::nginx
