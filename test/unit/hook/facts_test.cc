#include "hook/facts.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace oakum::hook {
namespace {

using testing::Contains;
using testing::Key;

constexpr char kId[] = "54ac45e64d8564320dba76ec33017289d17005c761627bc4645a02b6aadbf059";

std::string ContainerdBundle(const char* name_space) {
  return fmt::format("/run/containerd/io.containerd.runtime.v2.task/{}/{}", name_space, kId);
}
std::string StorageBundle() {
  return fmt::format("/var/lib/containers/storage/overlay-containers/{}/userdata", kId);
}

class Directory : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "oakum-facts-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    root_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(root_); }

  void Write(const std::string& name, const std::string& text) {
    const std::filesystem::path path = root_ + "/" + name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << text;
    ASSERT_EQ(chmod(path.c_str(), 0600), 0);
  }
  std::string root_;
};

TEST(DetectEngine, GoesByTheBundlesPath) {
  const oci::ConfigFacts config;
  EXPECT_EQ(DetectEngine(config, {}), Engine::kPodman);
  EXPECT_EQ(DetectEngine(config, {ContainerdBundle("moby"), kId}), Engine::kDocker);
  EXPECT_EQ(DetectEngine(config, {ContainerdBundle("k8s.io"), kId}), Engine::kContainerdCri);
  EXPECT_EQ(DetectEngine(config, {ContainerdBundle("default"), kId}), Engine::kContainerd);
  EXPECT_EQ(DetectEngine(config, {StorageBundle(), kId}), Engine::kPodman);
  EXPECT_EQ(DetectEngine(config, {"/home/me/bundle", kId}), Engine::kNone);
  EXPECT_EQ(DetectEngine(config, {"/", kId}), Engine::kNone);
  // The path of another container.
  EXPECT_EQ(DetectEngine(config, {ContainerdBundle("moby"), "other"}), Engine::kNone);
  EXPECT_EQ(DetectEngine(config, {StorageBundle(), "other"}), Engine::kNone);
}

TEST(DetectEngine, CrioNeedsItsCgroupAndItsAnnotation) {
  oci::ConfigFacts config;
  config.annotations = {{"io.container.manager", "cri-o"}};
  config.cgroups_path = fmt::format("/libpod_parent/libpod-{}", kId);
  EXPECT_EQ(DetectEngine(config, {StorageBundle(), kId}), Engine::kPodman);
  config.cgroups_path = fmt::format("kubepods-besteffort.slice:crio:{}", kId);
  EXPECT_EQ(DetectEngine(config, {StorageBundle(), kId}), Engine::kCrio);
  config.cgroups_path = fmt::format("/kubepods/besteffort/pod1/crio-{}", kId);
  EXPECT_EQ(DetectEngine(config, {StorageBundle(), kId}), Engine::kCrio);
  config.annotations.clear();
  EXPECT_EQ(DetectEngine(config, {StorageBundle(), kId}), Engine::kPodman);
}

TEST(ReadFacts, ByHandTheAnnotationsAreAllThereIs) {
  oci::ConfigFacts config;
  config.annotations = {{"io.kubernetes.cri.sandbox-namespace", "prod"}};
  const auto facts = ReadFacts(config, {"/home/me/bundle", "abc"});
  EXPECT_EQ(facts.engine, "");
  EXPECT_EQ(facts.id, "abc");
  EXPECT_EQ(facts.ns, "");
  EXPECT_EQ(facts.annotations, config.annotations);
  EXPECT_TRUE(facts.unknown.empty());
}

TEST(ReadFacts, KubernetesOnContainerd) {
  oci::ConfigFacts config;
  config.annotations = {{"io.kubernetes.cri.sandbox-namespace", "prod"},
                        {"io.kubernetes.cri.sandbox-name", "web-0"},
                        {"io.kubernetes.cri.container-name", "nginx"},
                        {"io.kubernetes.cri.image-name", "docker.io/library/nginx:1"},
                        {"io.kubernetes.cri.container-type", "container"}};
  auto facts = ReadFacts(config, {ContainerdBundle("k8s.io"), kId});
  EXPECT_EQ(facts.engine, "containerd");
  EXPECT_EQ(facts.ns, "prod");
  EXPECT_EQ(facts.pod, "web-0");
  EXPECT_EQ(facts.name, "nginx");
  EXPECT_EQ(facts.image, "docker.io/library/nginx:1");
  EXPECT_THAT(facts.unknown, Contains(Key("label")));

  config.annotations["io.kubernetes.cri.container-type"] = "sandbox";
  facts = ReadFacts(config, {ContainerdBundle("k8s.io"), kId});
  EXPECT_EQ(facts.ns, "prod");
  EXPECT_EQ(facts.name, "") << "a pod's author may have brought it in";
  EXPECT_EQ(facts.image, "");

  // The same words mean nothing from anybody else.
  facts = ReadFacts(config, {ContainerdBundle("default"), kId});
  EXPECT_EQ(facts.ns, "");
  EXPECT_EQ(facts.name, kId);
  EXPECT_THAT(facts.unknown, Contains(Key("image")));
  facts = ReadFacts(config, {StorageBundle(), kId});
  EXPECT_EQ(facts.engine, "podman");
  EXPECT_EQ(facts.ns, "");
}

TEST(ReadFacts, KubernetesOnCrio) {
  oci::ConfigFacts config;
  config.cgroups_path = fmt::format("kubepods.slice:crio:{}", kId);
  config.annotations = {{"io.container.manager", "cri-o"},
                        {"io.kubernetes.pod.namespace", "prod"},
                        {"io.kubernetes.pod.name", "web-0"},
                        {"io.kubernetes.container.name", "nginx"},
                        {"io.kubernetes.cri-o.ImageName", "docker.io/library/nginx:1"},
                        {"io.kubernetes.cri-o.ContainerType", "container"}};
  const auto facts = ReadFacts(config, {StorageBundle(), kId});
  EXPECT_EQ(facts.engine, "cri-o");
  EXPECT_EQ(facts.ns, "prod");
  EXPECT_EQ(facts.pod, "web-0");
  EXPECT_EQ(facts.name, "nginx");
  EXPECT_EQ(facts.image, "docker.io/library/nginx:1");
}

using DockerFacts = Directory;

TEST_F(DockerFacts, ComeFromItsOwnRecord) {
  oci::ConfigFacts config;
  config.root_path = root_ + "/overlay2/layer/merged";
  const Origin origin = {ContainerdBundle("moby"), kId};
  auto facts = ReadFacts(config, origin);
  EXPECT_EQ(facts.engine, "docker");
  EXPECT_THAT(facts.unknown, Contains(Key("name")));
  EXPECT_THAT(facts.unknown, Contains(Key("image")));
  EXPECT_THAT(facts.unknown, Contains(Key("label")));

  Write(
      fmt::format("containers/{}/config.v2.json", kId),
      fmt::format(
          R"({{"ID":"{}","Name":"/web","Config":{{"Image":"nginx","Labels":{{"a":"b"}}}}}})", kId));
  facts = ReadFacts(config, origin);
  EXPECT_TRUE(facts.unknown.empty()) << facts.unknown.begin()->second;
  EXPECT_EQ(facts.id, kId);
  EXPECT_EQ(facts.name, "web");
  EXPECT_EQ(facts.image, "docker.io/library/nginx:latest");
  EXPECT_EQ(facts.labels.at("a"), "b");
}

using PodmanFacts = Directory;

TEST_F(PodmanFacts, OfAHookComeByTheLayer) {
  Write("overlay-containers/containers.json", "[]");
  Write(
      "overlay-containers/volatile-containers.json",
      fmt::format(
          R"([{{"id":"{}","layer":"l1","metadata":"{{\"name\":\"web\",\"image-name\":\"localhost/i:1\"}}"}}])",
          kId));
  oci::ConfigFacts config;
  config.root_path = root_ + "/overlay/l1/merged";
  auto facts = ReadFacts(config, {});
  EXPECT_EQ(facts.engine, "podman");
  EXPECT_EQ(facts.id, kId);
  EXPECT_EQ(facts.name, "web");
  EXPECT_EQ(facts.image, "localhost/i:1");
  EXPECT_FALSE(facts.unknown.contains("name"));
  EXPECT_TRUE(facts.unknown.contains("label"));

  config.root_path = "/some/rootfs";
  config.cgroups_path = fmt::format("machine.slice:libpod:{}", kId);
  facts = ReadFacts(config, {});
  EXPECT_EQ(facts.id, kId);
  EXPECT_TRUE(facts.unknown.contains("name"));
  EXPECT_TRUE(facts.unknown.contains("image"));
}

TEST_F(PodmanFacts, OfARuntimeComeByTheId) {
  Write("overlay-containers/containers.json",
        fmt::format(R"([{{"id":"{}","layer":"","metadata":"{{\"name\":\"web\"}}"}}])", kId));
  const auto facts =
      ReadFacts({}, {fmt::format("{}/overlay-containers/{}/userdata", root_, kId), kId});
  EXPECT_EQ(facts.engine, "podman");
  EXPECT_EQ(facts.name, "web");
}

}  // namespace
}  // namespace oakum::hook
