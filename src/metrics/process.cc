// SPDX-License-Identifier: GPL-3.0-or-later
#include "metrics/process.h"

#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <ctime>
#include <filesystem>
#include <fstream>
#include <limits>
#include <sstream>
#include <string>
#include <system_error>

namespace ringmx::metrics {
namespace {

// Seconds since the epoch at which the machine was booted.
std::optional<double> boot_time() {
  std::ifstream file("/proc/stat");
  for (std::string word; file >> word;) {
    double seconds = 0;
    if (word == "btime" && file >> seconds) return seconds;
    file.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
  }
  return std::nullopt;
}

std::optional<std::int64_t> count_fds() {
  // Since Linux 6.2 the size of the directory is the number of descriptors. Before, it is 0.
  struct stat status {};
  if (::stat("/proc/self/fd", &status) == 0 && status.st_size > 0) return status.st_size;
  std::error_code error;
  std::int64_t count = 0;
  for (std::filesystem::directory_iterator entry("/proc/self/fd", error), end; !error && entry != end;
       entry.increment(error))
    ++count;
  if (error || count == 0) return std::nullopt;
  return count - 1;  // without the one that was just used for looking
}

// proc(5), /proc/PID/stat: vsize, rss and starttime.
void read_stat(Process& process) {
  std::ifstream file("/proc/self/stat");
  std::string line;
  std::getline(file, line);
  // The name of the program, in parentheses, may hold anything; fields are counted from behind it.
  const std::size_t name_end = line.rfind(')');
  if (name_end == line.npos) return;
  std::istringstream fields(line.substr(name_end + 1));
  std::string skipped;
  for (int field = 3; field < 22; ++field) fields >> skipped;
  double start_ticks = 0;
  std::int64_t vsize = 0;
  std::int64_t rss_pages = 0;
  if (!(fields >> start_ticks >> vsize >> rss_pages)) return;
  process.virtual_bytes = vsize;
  process.resident_bytes = rss_pages * ::sysconf(_SC_PAGESIZE);
  if (const auto boot = boot_time())
    process.start_time_seconds = *boot + start_ticks / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

}  // namespace

Process read_process() {
  Process process;
  // Finer than the ticks of /proc/self/stat.
  timespec cpu{};
  if (::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu) == 0)
    process.cpu_seconds = static_cast<double>(cpu.tv_sec) + static_cast<double>(cpu.tv_nsec) / 1e9;
  rlimit files{};
  if (::getrlimit(RLIMIT_NOFILE, &files) == 0) process.max_fds = static_cast<std::int64_t>(files.rlim_cur);
  process.open_fds = count_fds();
  read_stat(process);
  return process;
}

}  // namespace ringmx::metrics
