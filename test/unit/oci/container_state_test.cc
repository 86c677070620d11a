#include "oci/container_state.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <string>

namespace oakum::oci {
namespace {

using std::string_view_literals::operator""sv;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;
using testing::StartsWith;

// As runc writes it: compact, a trailing newline absent.
constexpr std::string_view kRunc =
    R"({"ociVersion":"1.0.2-dev","fds":["seccompFd"],"pid":4242,"metadata":"{\"oakum\":1}",)"
    R"("state":{"ociVersion":"1.0.2-dev","id":"box","status":"creating","pid":4240,)"
    R"("bundle":"/b","annotations":{"a":"1","b":"}{"}}})";

// As crun writes it: pretty-printed over several lines, no annotations.
constexpr std::string_view kCrun = R"({
    "ociVersion": "1.0",
    "fds": [
        "seccompFd"
    ],
    "pid": 0,
    "metadata": "",
    "state": {
        "ociVersion": "1.0",
        "id": "box",
        "status": "running",
        "pid": 17,
        "bundle": "/b"
    }
}
)";

TEST(ContainerStateTest, ReadsWhatRuncWrites) {
  auto state = ParseContainerProcessState(kRunc);
  ASSERT_TRUE(state) << state.error().ToString();
  EXPECT_EQ(state->oci_version, "1.0.2-dev");
  EXPECT_THAT(state->fd_names, ElementsAre("seccompFd"));
  EXPECT_EQ(state->pid, 4242);
  EXPECT_EQ(state->metadata, R"({"oakum":1})");
  EXPECT_EQ(state->id, "box");
  EXPECT_EQ(state->status, "creating");
  EXPECT_EQ(state->init_pid, 4240);
  EXPECT_EQ(state->bundle, "/b");
  EXPECT_THAT(state->annotations, ElementsAre(Pair("a", "1"), Pair("b", "}{")));
}

TEST(ContainerStateTest, ReadsWhatCrunWrites) {
  auto state = ParseContainerProcessState(kCrun);
  ASSERT_TRUE(state) << state.error().ToString();
  EXPECT_EQ(state->pid, 0);
  EXPECT_EQ(state->init_pid, 17);
  EXPECT_TRUE(state->annotations.empty());
}

TEST(ContainerStateTest, SaysWhichKeyIsWrong) {
  const auto error = [](std::string_view json) {
    auto state = ParseContainerProcessState(json);
    if (state) {
      return std::string("no error");
    }
    EXPECT_EQ(state.error().code, EINVAL);
    return state.error().ToString();
  };
  EXPECT_THAT(error("[]"), HasSubstr("must be an object"));
  EXPECT_THAT(error("{"), StartsWith("container process state:1:"));
  EXPECT_THAT(error("{}"), HasSubstr("\"ociVersion\" is missing"));
  EXPECT_THAT(error(R"({"ociVersion":1})"), HasSubstr("\"ociVersion\" must be a string"));
  EXPECT_THAT(error(R"({"ociVersion":"1","fds":null})"), HasSubstr("\"fds\" is missing"));
  EXPECT_THAT(error(R"({"ociVersion":"1","fds":"seccompFd"})"), HasSubstr("\"fds\" must be"));
  EXPECT_THAT(error(R"({"ociVersion":"1","fds":[1]})"), HasSubstr("\"fds\" must be"));
  EXPECT_THAT(error(R"({"ociVersion":"1","fds":[]})"), HasSubstr("\"pid\" is missing"));
  EXPECT_THAT(error(R"({"ociVersion":"1","fds":[],"pid":-1})"), HasSubstr("\"pid\" must be"));
  EXPECT_THAT(error(R"({"ociVersion":"1","fds":[],"pid":4294967296})"),
              HasSubstr("\"pid\" must be"));
  EXPECT_THAT(error(R"({"ociVersion":"1","fds":[],"pid":1.5})"), HasSubstr("\"pid\" must be"));
  EXPECT_THAT(error(R"({"ociVersion":"1","fds":[],"pid":1})"), HasSubstr("\"state\" is missing"));
  EXPECT_THAT(error(R"({"ociVersion":"1","fds":[],"pid":1,"state":[]})"),
              HasSubstr("\"state\" must be an object"));
  EXPECT_THAT(error(R"({"ociVersion":"1","fds":[],"pid":1,"state":{}})"),
              HasSubstr("\"state.id\" is missing"));
  EXPECT_THAT(error(R"({"ociVersion":"1","fds":[],"pid":1,"state":{"id":""}})"),
              HasSubstr("\"state.id\" is empty"));
  EXPECT_THAT(
      error(R"({"ociVersion":"1","fds":[],"pid":1,"state":{"id":"x","annotations":{"a":1}}})"),
      HasSubstr("\"state.annotations\" must be"));
  EXPECT_THAT(error(R"({"ociVersion":"1","fds":[],"pid":1,"state":{"id":"x","bundle":1}})"),
              HasSubstr("\"state.bundle\" must be"));
  EXPECT_THAT(error(R"({"ociVersion":"1","pid":1,"pid":2})"), HasSubstr("duplicate key"));
}

TEST(ContainerStateTest, TakesAnnotationsBeyond64KiB) {
  std::string json(kCrun);
  const std::string big(100'000, 'x');
  json.replace(json.find("\"bundle\""), 8,
               "\"annotations\": {\"big\": \"" + big + "\"}, \"bundle\"");
  auto state = ParseContainerProcessState(json);
  ASSERT_TRUE(state) << state.error().ToString();
  EXPECT_EQ(state->annotations.at("big"), big);
}

UniqueFd DevNull() { return UniqueFd(open("/dev/null", O_RDONLY | O_CLOEXEC)); }

TEST(TakeSeccompFdTest, PicksByNameAndLeavesTheOthers) {
  std::vector<UniqueFd> fds;
  fds.push_back(DevNull());
  fds.push_back(DevNull());
  fds.push_back(DevNull());
  const int expected = fds[1].get();
  const int last = fds[2].get();
  auto fd = TakeSeccompFd({"other", "seccompFd", "more"}, fds);
  ASSERT_TRUE(fd) << fd.error().ToString();
  EXPECT_EQ(fd->get(), expected);
  ASSERT_EQ(fds.size(), 2U);
  EXPECT_EQ(fds[1].get(), last);
}

TEST(TakeSeccompFdTest, SaysWhatDoesNotMatch) {
  const auto error = [](const std::vector<std::string>& names, size_t count) {
    std::vector<UniqueFd> fds;
    for (size_t i = 0; i < count; ++i) {
      fds.push_back(DevNull());
    }
    auto fd = TakeSeccompFd(names, fds);
    if (fd) {
      return std::string("no error");
    }
    EXPECT_EQ(fd.error().code, EPROTO);
    return fd.error().ToString();
  };
  EXPECT_THAT(error({"seccompFd"}, 0), HasSubstr("0 descriptors received, 1 named"));
  EXPECT_THAT(error({"seccompFd"}, 2), HasSubstr("2 descriptors received, 1 named"));
  EXPECT_THAT(error({}, 0), HasSubstr("0 descriptors named \"seccompFd\""));
  EXPECT_THAT(error({"x"}, 1), HasSubstr("0 descriptors named \"seccompFd\""));
  EXPECT_THAT(error({"seccompFd", "seccompFd"}, 2), HasSubstr("2 descriptors named"));
}

// Feeds `text` in pieces of `size` bytes and returns the object.
std::string Frame(std::string_view text, size_t size) {
  ObjectFramer framer(1 << 20);
  while (!text.empty()) {
    auto framed = framer.Feed(text.substr(0, size));
    if (!framed) {
      return "error: " + framed.error().ToString();
    }
    if (framed->has_value()) {
      return **framed;
    }
    text.remove_prefix(std::min(size, text.size()));
  }
  return "incomplete";
}

TEST(ObjectFramerTest, FindsTheEndWhateverThePieces) {
  std::string_view crun_object = kCrun;
  crun_object.remove_suffix(1);
  for (size_t size : {1, 2, 3, 7, 64, 100'000}) {
    EXPECT_EQ(Frame(kRunc, size), kRunc) << size;
    EXPECT_EQ(Frame(kCrun, size), crun_object) << size;
    EXPECT_EQ(Frame("\n \t{\"a\\\"}\": \"[{\\\\\"}", size), "{\"a\\\"}\": \"[{\\\\\"}") << size;
  }
}

TEST(ObjectFramerTest, IsReadyForAnotherObject) {
  ObjectFramer framer(100);
  EXPECT_FALSE(framer.started());
  auto first = framer.Feed("{\"a\":1");
  ASSERT_TRUE(first);
  EXPECT_FALSE(first->has_value());
  EXPECT_TRUE(framer.started());
  first = framer.Feed("} \n");
  ASSERT_TRUE(first && first->has_value());
  EXPECT_EQ(**first, "{\"a\":1}");
  EXPECT_FALSE(framer.started());
  auto second = framer.Feed("{}");
  ASSERT_TRUE(second && second->has_value());
  EXPECT_EQ(**second, "{}");
}

TEST(ObjectFramerTest, RefusesWhatIsNotOneObject) {
  for (const std::string_view text : {"[]"sv, "x"sv, "\"{}\""sv, " \0{}"sv}) {
    ObjectFramer framer(100);
    auto framed = framer.Feed(text);
    ASSERT_FALSE(framed) << text;
    EXPECT_EQ(framed.error().code, EINVAL);
    EXPECT_FALSE(framer.Feed("{}")) << "a failed stream stays failed";
  }
  ObjectFramer framer(100);
  auto framed = framer.Feed("{} {}");
  ASSERT_FALSE(framed);
  EXPECT_THAT(framed.error().ToString(), HasSubstr("follows the object"));
}

TEST(ObjectFramerTest, HoldsNoMoreThanItsLimit) {
  ObjectFramer exact(8);
  auto framed = exact.Feed("{\"a\":12}");
  ASSERT_TRUE(framed && framed->has_value());

  ObjectFramer longer(7);
  ASSERT_TRUE(longer.Feed("{\"a\":1"));
  auto refused = longer.Feed("2}");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, EMSGSIZE);

  ObjectFramer spaces(7);
  ASSERT_TRUE(spaces.Feed("     "));
  EXPECT_EQ(spaces.Feed("   {}").error().code, EMSGSIZE);
}

}  // namespace
}  // namespace oakum::oci
