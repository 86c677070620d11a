#include "oci/wait_killable.h"

#include <linux/seccomp.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <utility>

#include "oci/json.h"

// Younger than the headers of Debian 12.
#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif

namespace oakum::oci {

namespace {

using Version = std::pair<int, int>;

// "6.18.44-generic", "1.8.1": the first two numbers; 0 for what is not there.
Version ParseVersion(std::string_view text) {
  Version version{0, 0};
  const char* const end = text.data() + text.size();
  const auto [dot, error] = std::from_chars(text.data(), end, version.first);
  if (error == std::errc() && dot != end && *dot == '.') {
    (void)std::from_chars(dot + 1, end, version.second);
  }
  return version;
}

}  // namespace

bool KernelKnowsWaitKillable() {
  // With flags that it knows the kernel goes on to read the program, of which there is none.
  return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
                 SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
                 nullptr) != 0 &&
         errno == EFAULT;
}

bool KernelKeepsWaitKillable(std::string_view release) {
  return ParseVersion(release) >= Version{6, 18};
}

bool KernelWaitsKillable() {
  utsname names = {};
  return uname(&names) == 0 && KernelKeepsWaitKillable(names.release) && KernelKnowsWaitKillable();
}

RuntimeAnswer WaitKillableByVersion(std::string_view version_output) {
  constexpr std::string_view kCrun = "crun version ";
  if (!version_output.starts_with(kCrun)) {
    return RuntimeAnswer::kAskFeatures;
  }
  // Since crun 1.6 (its NEWS).
  const bool takes = ParseVersion(version_output.substr(kCrun.size())) >= Version{1, 6} &&
                     version_output.contains("+SECCOMP");
  return takes ? RuntimeAnswer::kYes : RuntimeAnswer::kNo;
}

bool WaitKillableByFeatures(const std::string& features_output) {
  const auto features = ParseJson(features_output, "features");
  if (!features || !features->is_object()) {
    return false;
  }
  const Json* value = &*features;
  for (const char* const key : {"linux", "seccomp", "supportedFlags"}) {
    const auto found = value->is_object() ? value->find(key) : value->end();
    if (!value->is_object() || found == value->end()) {
      return false;
    }
    value = &*found;
  }
  return value->is_array() && std::ranges::any_of(*value, [](const Json& flag) {
           return flag.is_string() && flag.get_ref<const std::string&>() == kWaitKillableFlag;
         });
}

}  // namespace oakum::oci
