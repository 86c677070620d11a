// Arguments that no honest program passes: the kernel without a guard is the oracle.
#include <fcntl.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "test/unit/agent/hostile_testing.h"

namespace oakum::agent {
namespace {

// Decides every call, and allows all of them.
constexpr std::string_view kAllowAll = R"("outgoing": {"default": "allow"}, "dns": "allow",
    "incoming": {"default": "deny", "allow": ["*", "* from *"]},
    "unix": {"default": "allow", "deny": ["/nobody/asks"]})";

std::vector<std::string> Lines(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) {
    lines.push_back(line);
  }
  return lines;
}

// The hostile program with its output in the test's hands.
std::function<int(int)> BadInput(unsigned seed, int count) {
  return [program = Hostile("bad-input", seed, count)](int output_fd) {
    dup2(output_fd, 1);
    return program(output_fd);
  };
}

class HostileInputTest : public testing::TestWithParam<Options> {};

TEST_P(HostileInputTest, GetsTheKernelsErrno) {
  constexpr int kCalls = 3000;
  for (unsigned seed = 1; seed <= 6; ++seed) {
    std::string bare;
    GuardedProcess process({}, BadInput(seed, kCalls));
    process.Go();
    ASSERT_EQ(process.Wait(&bare), 0);
    std::string output;
    Guarded guarded(Policies("enforce", kAllowAll), GetParam());
    ASSERT_EQ(guarded.Run(BadInput(seed, kCalls), &output), 0);
    const auto expected = Lines(bare);
    const auto lines = Lines(output);
    ASSERT_EQ(expected.size(), size_t{kCalls});
    ASSERT_EQ(lines.size(), expected.size());
    for (size_t i = 0; i < lines.size(); ++i) {
      EXPECT_EQ(lines[i], expected[i]) << "seed " << seed;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Ways, HostileInputTest,
                         testing::Values(Options{}, Options{.io_uring = false},
                                         Options{.thread_pidfds = false}),
                         [](const auto& param_info) {
                           return param_info.param.io_uring
                                      ? std::string(param_info.param.thread_pidfds ? "Default"
                                                                                   : "GroupPidfds")
                                      : "Threads";
                         });

// Sanitizers keep what has been freed, and shadow what has been used.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

size_t OpenDescriptors() {
  const std::filesystem::directory_iterator all("/proc/self/fd");
  return static_cast<size_t>(std::distance(begin(all), end(all)));
}

size_t ResidentPages() {
  std::ifstream statm("/proc/self/statm");
  size_t size = 0;
  size_t resident = 0;
  statm >> size >> resident;
  return resident;
}

// The agent's threads run in this process.
TEST(HostileInputTest, FloodLeavesNothingBehind) {
  Guarded guarded(Policies("enforce", R"("outgoing": {"default": "deny"})"));
  const auto flood = [&](unsigned seed) {
    std::string output;
    EXPECT_EQ(guarded.Run(BadInput(seed, 4000), &output), 0);
    for (int i = 0; i < 500 && !guarded.manager().List().empty(); ++i) {
      usleep(10'000);
    }
    EXPECT_TRUE(guarded.manager().List().empty());
  };
  flood(1);
  const size_t descriptors = OpenDescriptors();
  const size_t pages = ResidentPages();
  for (unsigned seed = 2; seed < 6; ++seed) {
    flood(seed);
  }
  EXPECT_LE(OpenDescriptors(), descriptors);
  if (!kSanitized) {
    // Events are kept by this test; what else there is does not grow with the calls.
    EXPECT_LT(ResidentPages(), pages + 4096);
  }
}

}  // namespace
}  // namespace oakum::agent
