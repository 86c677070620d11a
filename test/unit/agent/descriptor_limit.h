// RLIMIT_NOFILE as an agent would find it at its start.
#ifndef OAKUM_TEST_UNIT_AGENT_DESCRIPTOR_LIMIT_H_
#define OAKUM_TEST_UNIT_AGENT_DESCRIPTOR_LIMIT_H_

#include <gtest/gtest.h>
#include <sys/resource.h>

namespace oakum::agent {

// The test program's soft limit (getrlimit(2)), until the end of this object.
class DescriptorLimit {
 public:
  explicit DescriptorLimit(rlim_t limit) {
    EXPECT_EQ(getrlimit(RLIMIT_NOFILE, &old_), 0);
    const rlimit low = {limit, old_.rlim_max};
    EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
  }
  ~DescriptorLimit() { EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &old_), 0); }
  DescriptorLimit(const DescriptorLimit&) = delete;
  DescriptorLimit& operator=(const DescriptorLimit&) = delete;

 private:
  rlimit old_ = {};
};

}  // namespace oakum::agent

#endif  // OAKUM_TEST_UNIT_AGENT_DESCRIPTOR_LIMIT_H_
