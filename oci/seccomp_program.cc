#include "oci/seccomp_program.h"

#include <fmt/format.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <string>

#include "base/unique_fd.h"

namespace oakum::oci {

namespace {

struct ReleaseFilter {
  void operator()(void* filter) const { seccomp_release(filter); }
};
using Filter = std::unique_ptr<void, ReleaseFilter>;

uint32_t ToLibseccomp(const SeccompAction& action) {
  switch (action.kind) {
    case ActionKind::kAllow:
      return SCMP_ACT_ALLOW;
    case ActionKind::kLog:
      return SCMP_ACT_LOG;
    case ActionKind::kNotify:
      return SCMP_ACT_NOTIFY;
    case ActionKind::kErrno:
      return SCMP_ACT_ERRNO(action.data);
    case ActionKind::kTrace:
      return SCMP_ACT_TRACE(action.data);
    case ActionKind::kTrap:
      return SCMP_ACT_TRAP;
    case ActionKind::kKillThread:
      return SCMP_ACT_KILL_THREAD;
    case ActionKind::kKillProcess:
      return SCMP_ACT_KILL_PROCESS;
  }
  return SCMP_ACT_KILL_PROCESS;
}

scmp_arg_cmp ToLibseccomp(const ArgCondition& condition) {
  const auto compare = [&] {
    switch (condition.compare) {
      case Compare::kNotEqual:
        return SCMP_CMP_NE;
      case Compare::kLess:
        return SCMP_CMP_LT;
      case Compare::kLessOrEqual:
        return SCMP_CMP_LE;
      case Compare::kEqual:
        return SCMP_CMP_EQ;
      case Compare::kGreaterOrEqual:
        return SCMP_CMP_GE;
      case Compare::kGreater:
        return SCMP_CMP_GT;
      case Compare::kMaskedEqual:
        return SCMP_CMP_MASKED_EQ;
    }
    return _SCMP_CMP_MIN;
  };
  return {condition.index, compare(), condition.value, condition.value_two};
}

Expected<void> AddRule(void* filter, const SeccompRule& rule, const std::string& name) {
  const int number = seccomp_syscall_resolve_name(name.c_str());
  if (number == __NR_SCMP_ERROR) {
    return {};  // the runtimes ignore names that libseccomp does not know
  }
  for (const std::vector<ArgCondition>& alternative : Alternatives(rule)) {
    std::vector<scmp_arg_cmp> conditions;
    conditions.reserve(alternative.size());
    for (const ArgCondition& condition : alternative) {
      conditions.push_back(ToLibseccomp(condition));
    }
    const int result =
        seccomp_rule_add_array(filter, ToLibseccomp(rule.action), number,
                               static_cast<unsigned>(conditions.size()), conditions.data());
    if (result < 0) {
      return ErrnoError(-result, fmt::format("libseccomp refuses a rule for {}", Escape(name)));
    }
  }
  return {};
}

Expected<BpfProgram> Export(void* filter) {
  const UniqueFd fd(memfd_create("oakum-bpf", MFD_CLOEXEC));
  if (!fd) {
    return ErrnoError("memfd_create");
  }
  if (const int result = seccomp_export_bpf(filter, fd.get()); result < 0) {
    return ErrnoError(-result, "libseccomp cannot build the filter");
  }
  const off_t size = lseek(fd.get(), 0, SEEK_END);
  if (size < 0) {
    return ErrnoError("lseek");
  }
  BpfProgram program(static_cast<size_t>(size) / sizeof(sock_filter));
  if (pread(fd.get(), program.data(), static_cast<size_t>(size), 0) != size) {
    return ErrnoError("pread");
  }
  if (program.size() > BPF_MAXINSNS) {
    return MakeError(E2BIG, fmt::format("the filter has {} instructions, the kernel takes {}",
                                        program.size(), BPF_MAXINSNS));
  }
  return program;
}

}  // namespace

std::vector<const SeccompArch*> ArchsOf(const SeccompSection& section) {
  std::vector<const SeccompArch*> archs;
  const auto add = [&](const SeccompArch* arch) {
    if (arch != nullptr && std::ranges::find(archs, arch) == archs.end()) {
      archs.push_back(arch);
    }
  };
  add(NativeArch());
  for (const std::string& token : section.architectures) {
    add(FindArch(token));
  }
  return archs;
}

Expected<BpfProgram> ToBpf(const SeccompSection& section) {
  const Filter filter(seccomp_init(ToLibseccomp(section.default_action)));
  if (!filter) {
    return MakeError(EINVAL, "libseccomp does not take the default action");
  }
  for (const SeccompArch* arch : ArchsOf(section)) {
    const int result = seccomp_arch_add(filter.get(), arch->libseccomp);
    if (result < 0 && result != -EEXIST) {
      return ErrnoError(-result, fmt::format("libseccomp does not take {}", arch->token));
    }
  }
  for (const SeccompRule& rule : section.rules) {
    if (rule.action == section.default_action) {
      continue;
    }
    for (const std::string& name : rule.names) {
      if (auto added = AddRule(filter.get(), rule, name); !added) {
        return std::unexpected(added.error());
      }
    }
  }
  return Export(filter.get());
}

}  // namespace oakum::oci
