#include "agent/caller/mount_table.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>

namespace oakum::agent {
namespace {

constexpr std::string_view kTable =
    "77 45 254:0 /srv/rootfs / ro,relatime - ext4 /dev/vda rw\n"
    "78 77 0:40 / /proc rw,relatime shared:1 master:2 - proc proc rw\n"
    "79 77 0:29 /app /run/app\\040one ro - tmpfs none rw\n"
    "80 77 0:29 /app/a.sock /tmp/alias rw - tmpfs none rw\n"
    "not a mount\n"
    "81 77 0:29 /other /run/other rw -\n";

TEST(MountTableTest, Lines) {
  const auto mounts = ParseMounts(kTable);
  ASSERT_EQ(mounts.size(), 4U);
  EXPECT_EQ(mounts[0].id, 77U);
  EXPECT_EQ(mounts[0].device, "254:0");
  EXPECT_EQ(mounts[0].root, "/srv/rootfs");
  EXPECT_EQ(mounts[0].point, "/");
  EXPECT_TRUE(mounts[0].read_only);
  EXPECT_EQ(mounts[1].type, "proc");
  EXPECT_FALSE(mounts[1].read_only);
  EXPECT_EQ(mounts[2].point, "/run/app one");
}

TEST(MountTableTest, AFileHasANameThroughEveryMount) {
  const auto mounts = ParseMounts(kTable);
  FilePlace place;
  ASSERT_TRUE(PlaceOf(mounts[3], "/tmp/alias", place));
  EXPECT_EQ(place.device, "0:29");
  EXPECT_EQ(place.path, "/app/a.sock");
  std::vector<std::string> names;
  EXPECT_TRUE(AppendNames(mounts, place, names));
  EXPECT_EQ(names, (std::vector<std::string>{"/run/app one/a.sock", "/tmp/alias"}));
  ASSERT_TRUE(PlaceOf(mounts[0], "/etc/passwd", place));
  EXPECT_EQ(place.path, "/srv/rootfs/etc/passwd");
  // A name that only begins alike lies elsewhere.
  EXPECT_FALSE(PlaceOf(mounts[2], "/run/app one more", place));
  names.clear();
  EXPECT_TRUE(AppendNames(mounts, {"0:29", "/application"}, names));
  EXPECT_TRUE(names.empty());
}

TEST(MountTableTest, TooManyNamesAreSaid) {
  std::vector<Mount> mounts;
  for (int i = 0; i < 5000; ++i) {
    Mount& mount = mounts.emplace_back();
    mount.device = "0:1";
    mount.root = "/";
    mount.point = "/m" + std::to_string(i);
  }
  std::vector<std::string> names;
  EXPECT_FALSE(AppendNames(mounts, {"0:1", "/x"}, names));
}

TEST(MountTableTest, OfThisProcess) {
  auto table = MountTable::Open(getpid());
  ASSERT_TRUE(table.has_value());
  const auto has_root = [](const std::vector<Mount>& mounts) {
    return std::ranges::any_of(mounts, [](const Mount& mount) { return mount.point == "/"; });
  };
  EXPECT_TRUE(has_root(table->Now()));
  EXPECT_TRUE(has_root(table->Now()));
  EXPECT_FALSE(MountTable::Open(0).has_value());
}

}  // namespace
}  // namespace oakum::agent
