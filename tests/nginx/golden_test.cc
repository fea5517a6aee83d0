// SPDX-License-Identifier: GPL-3.0-or-later
// Whole configurations of nginx, in golden/NAME/, and what is made of them: golden/NAME/expected, and below
// "=====" what is said on standard error. Run with RINGMX_GOLDEN_UPDATE=1 to write that anew, and read what
// has changed.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "config/config.h"
#include "nginx/files.h"
#include "nginx/translation.h"

namespace ringmx::nginx {
namespace {

const std::string folder = RINGMX_GOLDEN;

// The files of a folder as if it were /etc/nginx.
Files installed(const std::string& name) {
  const std::string here = folder + "/" + name + "/";
  const std::string there = "/etc/nginx/";
  return {[=](const std::string& path, std::string& error) {
            return system_files().read(here + path.substr(there.size()), error);
          },
          [=](const std::string& pattern) {
            std::vector<std::string> found = system_files().match(here + pattern.substr(there.size()));
            for (std::string& path : found) path = there + path.substr(here.size());
            return found;
          }};
}

class Golden : public testing::TestWithParam<const char*> {};

TEST_P(Golden, IsAsExpected) {
  const Translation result = import_file("/etc/nginx/nginx.conf", installed(GetParam()));
  ASSERT_FALSE(result.problem) << result.problem->text();
  std::string got = result.text + "=====\n";
  for (const Finding& finding : result.findings) got += finding.line() + "\n";
  const std::string file = folder + "/" + GetParam() + "/expected";
  if (std::getenv("RINGMX_GOLDEN_UPDATE") != nullptr) std::ofstream(file) << got;
  std::stringstream expected;
  expected << std::ifstream(file).rdbuf();
  EXPECT_EQ(got, expected.str());
}

// What is commented out is right, too: only the marks in front of it are in the way.
std::string with_rules(const std::string& text) {
  const std::size_t rules = text.find("# Who must use TLS");
  std::string out = text.substr(0, rules);
  std::istringstream lines(rules == text.npos ? "" : text.substr(rules));
  for (std::string line; std::getline(lines, line);)
    out += (line.starts_with("#") && !line.starts_with("# ") ? line.substr(1) : line) + "\n";
  return out;
}

TEST_P(Golden, CanBeRun) {
  const Translation result = import_file("/etc/nginx/nginx.conf", installed(GetParam()));
  for (const std::string& text : {result.text, with_rules(result.text)}) {
    config::Config config;
    std::vector<config::Problem> problems;
    EXPECT_TRUE(config::parse(text, "ringmx.toml", config, problems, true)) << text;
    for (const config::Problem& problem : problems) ADD_FAILURE() << problem.text();
  }
}

INSTANTIATE_TEST_SUITE_P(Nginx, Golden, testing::Values("mx", "hosting", "partners"),
                         [](const testing::TestParamInfo<const char*>& one) {
                           return std::string(one.param);
                         });

}  // namespace
}  // namespace ringmx::nginx
