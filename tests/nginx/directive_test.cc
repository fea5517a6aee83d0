// SPDX-License-Identifier: GPL-3.0-or-later
#include "nginx/directive.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "files_in_memory.h"
#include "nginx/files.h"

namespace ringmx::nginx {
namespace {

using testing::HasSubstr;

// "FILE:LINE name arguments; ...", blocks in braces.
std::string written(const std::vector<Directive>& directives) {
  std::string out;
  for (const Directive& d : directives) {
    out += (out.empty() ? "" : " ") + d.place.text() + " " + d.name;
    for (const std::string& argument : d.arguments) out += " " + argument;
    out += d.is_block ? " {" + written(d.children) + "}" : ";";
  }
  return out;
}

std::string read(const std::map<std::string, std::string>& texts, const std::string& file = "/n/nginx.conf") {
  std::vector<Directive> directives;
  if (const auto problem = read_directives(file, files_of(texts), directives)) return problem->text();
  return written(directives);
}

std::string read_text(const std::string& text) {
  return read({{"/n/nginx.conf", text}});
}

TEST(Directives, Tree) {
  EXPECT_EQ(read_text("a;\nb 1 '2 3' {\n c;\n d {}\n}\n"),
            "/n/nginx.conf:1 a; /n/nginx.conf:2 b 1 2 3 {/n/nginx.conf:3 c; /n/nginx.conf:4 d {}}");
  EXPECT_EQ(read_text("x_by_lua_block { if a then b = { '}' } end }\ny;"),
            "/n/nginx.conf:1 x_by_lua_block {} /n/nginx.conf:2 y;");
}

TEST(Directives, Faults) {
  EXPECT_THAT(read_text("a;\n;"), HasSubstr("/n/nginx.conf:2: unexpected \";\"; see what `nginx -t` says"));
  EXPECT_THAT(read_text("{"), HasSubstr(":1: unexpected \"{\""));
  EXPECT_THAT(read_text("a {\n}\n}"), HasSubstr(":3: unexpected \"}\""));
  EXPECT_THAT(read_text("a {\n b }"), HasSubstr(":2: unexpected \"}\""));
  EXPECT_THAT(read_text("a {\n b;"), HasSubstr(":2: the file ends where \"}\" is expected"));
  EXPECT_THAT(read_text("a\n b"), HasSubstr(":2: the file ends where \";\" or \"{\" is expected"));
  EXPECT_THAT(read_text("a 'b"), HasSubstr(":1: the quote ' is never closed"));
  EXPECT_THAT(read_text("a_by_lua_block {"), HasSubstr("the block of Lua is never closed"));
  EXPECT_THAT(read_text("include;"), HasSubstr(":1: include takes one file or pattern"));
  EXPECT_THAT(read_text("include a b;"), HasSubstr(":1: include takes one file or pattern"));
  std::string deep;
  for (int i = 0; i < 65; ++i) deep += "a {";
  EXPECT_THAT(read_text(deep), HasSubstr("too many blocks in each other"));
}

// Relative to the folder of nginx.conf, wherever the include stands.
TEST(Directives, Includes) {
  EXPECT_EQ(read({{"/n/nginx.conf", "a;\ninclude d/x.conf;\nb;"},
                  {"/n/d/x.conf", "c;\nm { include d/y.conf; include /z.conf; }"},
                  {"/n/d/y.conf", "\nd;"},
                  {"/z.conf", "e;"}}),
            "/n/nginx.conf:1 a; /n/d/x.conf:1 c; /n/d/x.conf:2 m {/n/d/y.conf:2 d; /z.conf:1 e;} "
            "/n/nginx.conf:3 b;");
  EXPECT_EQ(read({{"nginx.conf", "include d/x.conf;"}, {"d/x.conf", "a;"}}, "nginx.conf"), "d/x.conf:1 a;");
}

TEST(Directives, IncludesOfPatterns) {
  EXPECT_EQ(read({{"/n/nginx.conf", "include d/*.conf;\ninclude e/[ab]?;\ninclude none/*;"},
                  {"/n/d/1.conf", "one;"},
                  {"/n/d/2.conf", "two;"},
                  {"/n/d/2.conf.old", "old;"},
                  {"/n/d/e/3.conf", "three;"},
                  {"/n/e/a1", "four;"},
                  {"/n/e/c1", "five;"}}),
            "/n/d/1.conf:1 one; /n/d/2.conf:1 two; /n/e/a1:1 four;");
}

TEST(Directives, IncludesThatCannotBe) {
  EXPECT_EQ(
      read({{"/n/nginx.conf", "a;\ninclude x;"}}),
      "/n/nginx.conf:2: \"/n/x\" can't be read: No such file or directory; mend the include, or the file's "
      "rights");
  EXPECT_EQ(read({}),
            "/n/nginx.conf: \"/n/nginx.conf\" can't be read: No such file or directory; name a readable "
            "nginx.conf");
  // A file is whole in itself.
  EXPECT_THAT(read({{"/n/nginx.conf", "a {\ninclude x;"}, {"/n/x", "}"}}),
              HasSubstr("/n/x:1: unexpected \"}\""));
}

TEST(Directives, IncludesInCircles) {
  EXPECT_EQ(read({{"/n/nginx.conf", "include nginx.conf;"}}),
            "/n/nginx.conf:1: \"/n/nginx.conf\" includes itself; remove this include");
  EXPECT_THAT(read({{"/n/nginx.conf", "include a;"}, {"/n/a", "\ninclude b;"}, {"/n/b", "include *;"}}),
              HasSubstr("/n/b:1: \"/n/a\" includes itself"));
  // By another name each time.
  Files files;
  files.read = [](const std::string& path, std::string&) { return "include " + path + "/x;"; };
  std::vector<Directive> directives;
  EXPECT_THAT(read_directives("/a", files, directives)->text(), HasSubstr("there are too many includes"));
  // Wide, not deep.
  files.read = [](const std::string& path, std::string&) -> std::optional<std::string> {
    return path.size() > 15 ? "a;" : "include " + path + "1; include " + path + "2;";
  };
  EXPECT_THAT(read_directives("/a", files, directives)->text(), HasSubstr("there are too many includes"));
}

TEST(Directives, FilesOfThisHost) {
  const std::string folder = testing::TempDir();
  const std::string path = folder + "/nginx-directive-test.conf";
  std::remove(path.c_str());
  std::string error;
  ASSERT_TRUE(write_new_file(path, "a b;", error)) << error;
  EXPECT_FALSE(write_new_file(path, "", error));
  EXPECT_EQ(error, "File exists");
  const Files files = system_files();
  EXPECT_EQ(files.read(path, error), "a b;");
  EXPECT_THAT(files.match(folder + "/nginx-directive-tes[t].conf"), testing::ElementsAre(path));
  EXPECT_THAT(files.match(folder + "/nginx-directive-tes?.none"), testing::IsEmpty());
  std::remove(path.c_str());
  EXPECT_FALSE(files.read(path, error));
  EXPECT_EQ(error, "No such file or directory");
  EXPECT_FALSE(files.read(folder, error));
  EXPECT_EQ(error, "Is a directory");
  EXPECT_FALSE(files.read("/dev/zero", error));
  EXPECT_EQ(error, "it has more than 4 MiB");
}

}  // namespace
}  // namespace ringmx::nginx
