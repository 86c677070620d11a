// The published schema and the parser know the same keys and words. (schema_test.py judges sample
// files by both.)
#include "policy/schema.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "policy/checked.h"
#include "policy/syntax.h"

namespace oakum::policy {
namespace {

using Json = nlohmann::json;
using Strings = std::set<std::string>;

Strings ToSet(std::span<const std::string_view> words) { return {words.begin(), words.end()}; }

Json Definitions() { return Json::parse(SchemaText()).at("$defs"); }

TEST(SchemaTest, KnowsTheKeysOfTheParser) {
  const Json definitions = Definitions();
  Strings objects;
  for (const syntax::ObjectKeys& object : syntax::AllObjectKeys()) {
    SCOPED_TRACE(std::string(object.name));
    objects.emplace(object.name);
    const auto definition = definitions.find(object.name);
    ASSERT_NE(definition, definitions.end());
    EXPECT_EQ(definition->at("additionalProperties"), false);
    Strings keys;
    for (const auto& [key, value] : definition->at("properties").items()) {
      keys.insert(key);
    }
    EXPECT_EQ(keys, ToSet(object.keys));
    EXPECT_EQ(definition->value("required", Json::array()).get<Strings>(), ToSet(object.required));
  }
  // And the other way round: no object of the schema is unknown to the parser.
  for (const auto& [name, definition] : definitions.items()) {
    if (definition.contains("properties")) {
      EXPECT_TRUE(objects.contains(name)) << name;
    }
  }
}

TEST(SchemaTest, KnowsTheWordsOfTheParser) {
  const Json definitions = Definitions();
  Strings known;
  for (const Words& words : AllWords()) {
    SCOPED_TRACE(std::string(words.name));
    known.emplace(words.name);
    const auto definition = definitions.find(words.name);
    ASSERT_NE(definition, definitions.end());
    EXPECT_EQ(definition->at("enum").get<Strings>(), ToSet(words.words));
  }
  for (const auto& [name, definition] : definitions.items()) {
    if (definition.contains("enum")) {
      EXPECT_TRUE(known.contains(name)) << name;
    }
  }
}

TEST(SchemaTest, HasTheSameBounds) {
  const Json definitions = Definitions();
  EXPECT_EQ(definitions.at("unix_rules").at("maxItems"), kMaxUnixRules);
  EXPECT_EQ(definitions.at("unix_rule").at("maxLength"), kMaxPatternLength);
  EXPECT_EQ(definitions.at("pattern").at("maxLength"), kMaxPatternLength);
  EXPECT_EQ(definitions.at("outgoing_rules").at("maxItems"), syntax::kMaxListEntries);
  EXPECT_EQ(definitions.at("outgoing_rule").at("maxLength"), syntax::kMaxString);
  EXPECT_EQ(definitions.at("file").at("properties").at("policies").at("maxProperties"),
            syntax::kMaxNamed);
}

}  // namespace
}  // namespace oakum::policy
