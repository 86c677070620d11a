#include "policy/locations.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "policy/config.h"

namespace oakum::policy {
namespace {

bool Nothing(const std::string& /*path*/) { return false; }

constexpr char kPodman[] =
    "         0       1001          1\n"
    "         1     100000      65536\n";

TEST(LocationsTest, TheUserOutsideOfAUserNamespace) {
  EXPECT_EQ(OutsideUid("         0          0 4294967295\n", 0), 0U);
  EXPECT_EQ(OutsideUid("         0          0 4294967295\n", 1000), 1000U);
  EXPECT_EQ(OutsideUid(kPodman, 0), 1001U);
  EXPECT_EQ(OutsideUid(kPodman, 1), 100000U);
  EXPECT_EQ(OutsideUid(kPodman, 65536), 165535U);
  EXPECT_EQ(OutsideUid(kPodman, 65537), std::nullopt);
  EXPECT_EQ(OutsideUid("", 0), std::nullopt);
  EXPECT_EQ(OutsideUid("what", 0), std::nullopt);
}

TEST(LocationsTest, RootHasTheMachines) {
  const User root = {
      .uid = 0, .home = "/root", .config_home = "/root/.config", .runtime_dir = "/run/user/0"};
  const Locations locations = LocationsOf(root, [](const std::string&) { return true; });
  EXPECT_EQ(locations.config, "/etc/oakum/config.json");
  EXPECT_EQ(locations.socket, "/run/oakum/agent.sock");
  EXPECT_EQ(locations.policy, "/etc/oakum/policy.d");
}

TEST(LocationsTest, AUserHasThoseOfXdg) {
  User user = {.uid = 1001, .home = "/home/u", .config_home = {}, .runtime_dir = {}};
  Locations locations = LocationsOf(
      user, [](const std::string& path) { return path == "/home/u/.config/oakum/policy.d"; });
  EXPECT_EQ(locations.config, "/home/u/.config/oakum/config.json");
  EXPECT_EQ(locations.socket, "/run/user/1001/oakum/agent.sock");
  EXPECT_EQ(locations.policy, "/home/u/.config/oakum/policy.d");
  user.config_home = "/c";
  user.runtime_dir = "/r";
  locations = LocationsOf(user, Nothing);
  EXPECT_EQ(locations.config, "/c/oakum/config.json");
  EXPECT_EQ(locations.socket, "/r/oakum/agent.sock");
  EXPECT_EQ(locations.policy, "/etc/oakum/policy.d") << "without one of their own";
}

TEST(LocationsTest, WhatIsNotAbsoluteIsIgnored) {
  User user = {.uid = 1001, .home = "/home/u", .config_home = "c", .runtime_dir = "r"};
  const Locations locations = LocationsOf(user, Nothing);
  EXPECT_EQ(locations.config, "/home/u/.config/oakum/config.json");
  EXPECT_EQ(locations.socket, "/run/user/1001/oakum/agent.sock");
  user.home = "";
  EXPECT_EQ(LocationsOf(user, Nothing).config, "/etc/oakum/config.json");
}

TEST(LocationsTest, TheyAreWhatAConfigurationDoesNotSay) {
  const Locations locations = {.config = "/nowhere/c", .socket = "/s", .policy = "/p"};
  const auto missing = LoadConfig(std::nullopt, nullptr, locations);
  ASSERT_TRUE(missing) << missing.error().what;
  EXPECT_EQ(missing->socket, "/s");
  EXPECT_EQ(missing->policy, "/p");
  char directory[] = "/tmp/oakum-locations-test-XXXXXX";
  ASSERT_NE(mkdtemp(directory), nullptr);
  const std::string path = std::string(directory) + "/config.json";
  std::ofstream(path) << R"({"policy": "/mine"})";
  const auto found = LoadConfig(std::nullopt, "", {.config = path, .socket = "/s", .policy = "/p"});
  std::filesystem::remove_all(directory);
  ASSERT_TRUE(found) << found.error().what;
  EXPECT_EQ(found->socket, "/s");
  EXPECT_EQ(found->policy, "/mine");
}

}  // namespace
}  // namespace oakum::policy
