// SPDX-License-Identifier: GPL-3.0-or-later
#include "nginx/lexer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

namespace ringmx::nginx {
namespace {

using testing::ElementsAre;

// "3:word", "3;", "3{", "3}", "3 end", "3!fault"
std::vector<std::string> tokens(std::string_view text) {
  std::vector<std::string> out;
  for (Lexer lexer(text);;) {
    const Token token = lexer.next();
    const std::string line = std::to_string(token.line);
    switch (token.kind) {
      case Token::Kind::word:
        out.push_back(line + ":" + token.text);
        break;
      case Token::Kind::semicolon:
        out.push_back(line + ";");
        break;
      case Token::Kind::open:
        out.push_back(line + "{");
        break;
      case Token::Kind::close:
        out.push_back(line + "}");
        break;
      case Token::Kind::end:
        EXPECT_EQ(lexer.next().kind, Token::Kind::end);
        return out;
      case Token::Kind::fault:
        out.push_back(line + "!" + token.text);
        EXPECT_EQ(lexer.next().kind, Token::Kind::fault);
        return out;
    }
  }
}

TEST(Lexer, WordsAndMarks) {
  EXPECT_THAT(tokens(""), ElementsAre());
  EXPECT_THAT(tokens(" \t\r\n"), ElementsAre());
  EXPECT_THAT(tokens("listen 25;"), ElementsAre("1:listen", "1:25", "1;"));
  EXPECT_THAT(tokens("mail{\n server\n{\r\n}}"), ElementsAre("1:mail", "1{", "2:server", "3{", "4}", "4}"));
}

TEST(Lexer, CommentsBeginWhereAWordCould) {
  EXPECT_THAT(tokens("# a; b {\nx;#y\n# z"), ElementsAre("2:x", "2;"));
  EXPECT_THAT(tokens("a#b c;"), ElementsAre("1:a#b", "1:c", "1;"));
  EXPECT_THAT(tokens("a '#b' \"# c\";"), ElementsAre("1:a", "1:#b", "1:# c", "1;"));
}

TEST(Lexer, Quotes) {
  EXPECT_THAT(tokens(R"(a "b c" 'd "e"' "f 'g'" "" ;)"),
              ElementsAre("1:a", "1:b c", "1:d \"e\"", "1:f 'g'", "1:", "1;"));
  EXPECT_THAT(tokens("a \"b\nc\" d;"), ElementsAre("1:a", "1:b\nc", "2:d", "2;"));
  // Only in front of a word.
  EXPECT_THAT(tokens(R"(a"b" c'd;)"), ElementsAre("1:a\"b\"", "1:c'd", "1;"));
  EXPECT_THAT(tokens(R"(if ($a = "b") {)"), ElementsAre("1:if", "1:($a", "1:=", "1:b", "1:)", "1{"));
  EXPECT_THAT(tokens("a \"b\"{"), ElementsAre("1:a", "1:b", "1{"));
}

TEST(Lexer, Escapes) {
  EXPECT_THAT(tokens(R"("a\"b\'c\\d\te\rf\ng\h")"), ElementsAre("1:a\"b'c\\d\te\rf\ng\\h"));
  EXPECT_THAT(tokens(R"('it\'s' a\ b\;c \{)"), ElementsAre("1:it's", "1:a\\ b\\;c", "1:\\{"));
  EXPECT_THAT(tokens("a\\\nb c;"), ElementsAre("1:a\\\nb", "2:c", "2;"));
  EXPECT_THAT(tokens("a\\"), ElementsAre("1:a\\"));
}

TEST(Lexer, VariablesInBraces) {
  EXPECT_THAT(tokens("${a}b $c{ x"), ElementsAre("1:${a}b", "1:$c", "1{", "1:x"));
  EXPECT_THAT(tokens("a${b};"), ElementsAre("1:a${b}", "1;"));
  EXPECT_THAT(tokens("a}b;"), ElementsAre("1:a}b", "1;"));
}

TEST(Lexer, Faults) {
  EXPECT_THAT(tokens("a\n\"b\nc"), ElementsAre("1:a", "2!the quote \" is never closed"));
  EXPECT_THAT(tokens("a 'b"), ElementsAre("1:a", "1!the quote ' is never closed"));
  EXPECT_THAT(tokens("a \"b\"c;"), ElementsAre("1:a", "1!there is no space behind the quote \""));
}

TEST(Lexer, Lua) {
  const auto rest = [](std::string_view text) {
    Lexer lexer(text);
    if (!lexer.skip_lua()) return std::string("never closed");
    const Token token = lexer.next();
    return std::to_string(token.line) + ":" + token.text;
  };
  EXPECT_EQ(rest("a = {}\n} b"), "2:b");
  EXPECT_EQ(rest("-- }\n} b"), "2:b");
  EXPECT_EQ(rest("x = \"}\\\"}\" y = '}' } b"), "1:b");
  EXPECT_EQ(rest("a - b } c"), "1:c");
  EXPECT_EQ(rest("{ }"), "never closed");
  EXPECT_EQ(rest("'}"), "never closed");
}

}  // namespace
}  // namespace ringmx::nginx
