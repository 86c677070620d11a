#include "test/unit/oci/runtime_filter.h"

#include <fmt/format.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <map>
#include <memory>
#include <optional>

#include "base/unique_fd.h"

namespace oakum::oci {

namespace {

struct ReleaseFilter {
  void operator()(void* filter) const { seccomp_release(filter); }
};
using Filter = std::unique_ptr<void, ReleaseFilter>;

std::optional<uint32_t> Action(const std::string& name, uint32_t errno_value) {
  const std::map<std::string, uint32_t> actions = {
      {"SCMP_ACT_ALLOW", SCMP_ACT_ALLOW},
      {"SCMP_ACT_LOG", SCMP_ACT_LOG},
      {"SCMP_ACT_NOTIFY", SCMP_ACT_NOTIFY},
      {"SCMP_ACT_TRAP", SCMP_ACT_TRAP},
      {"SCMP_ACT_KILL", SCMP_ACT_KILL},
      {"SCMP_ACT_KILL_THREAD", SCMP_ACT_KILL_THREAD},
      {"SCMP_ACT_KILL_PROCESS", SCMP_ACT_KILL_PROCESS},
      {"SCMP_ACT_ERRNO", SCMP_ACT_ERRNO(errno_value)},
      {"SCMP_ACT_TRACE", SCMP_ACT_TRACE(errno_value)},
  };
  const auto found = actions.find(name);
  return found == actions.end() ? std::nullopt : std::optional(found->second);
}

const std::map<std::string, scmp_compare> kOperators = {{"SCMP_CMP_NE", SCMP_CMP_NE},
                                                        {"SCMP_CMP_LT", SCMP_CMP_LT},
                                                        {"SCMP_CMP_LE", SCMP_CMP_LE},
                                                        {"SCMP_CMP_EQ", SCMP_CMP_EQ},
                                                        {"SCMP_CMP_GE", SCMP_CMP_GE},
                                                        {"SCMP_CMP_GT", SCMP_CMP_GT},
                                                        {"SCMP_CMP_MASKED_EQ", SCMP_CMP_MASKED_EQ}};

std::optional<uint32_t> Arch(std::string token) {
  if (token.starts_with("SCMP_ARCH_")) {
    token.erase(0, 10);
  }
  std::ranges::transform(token, token.begin(), [](unsigned char c) { return std::tolower(c); });
  const uint32_t arch = seccomp_arch_resolve_name(token.c_str());
  return arch == 0 ? std::nullopt : std::optional(arch);
}

Json Member(const Json& object, const char* key, Json fallback) {
  const auto found = object.find(key);
  return found == object.end() || found->is_null() ? std::move(fallback) : *found;
}

// crun looks at the first six conditions only, runc at all.
size_t ArgLimit(RuntimeKind kind, size_t count) {
  return kind == RuntimeKind::kCrun ? std::min<size_t>(count, 6) : count;
}

Expected<void> AddRule(void* filter, uint32_t action, int number, const Json& args,
                       RuntimeKind kind) {
  std::vector<scmp_arg_cmp> conditions;
  std::array<int, 6> count = {};
  bool repeated = false;
  for (size_t i = 0; i < ArgLimit(kind, args.size()); ++i) {
    const Json& arg = args[i];
    const unsigned index = arg.at("index").get<unsigned>();
    if (index >= count.size()) {
      return MakeError(EINVAL, "argument index");
    }
    repeated |= ++count[index] > 1;
    conditions.push_back({index, kOperators.at(arg.at("op").get<std::string>()),
                          Member(arg, "value", 0).get<uint64_t>(),
                          Member(arg, "valueTwo", 0).get<uint64_t>()});
  }
  const auto add = [&](const scmp_arg_cmp* first, size_t size) -> Expected<void> {
    const int result =
        seccomp_rule_add_array(filter, action, number, static_cast<unsigned>(size), first);
    if (result < 0) {
      return ErrnoError(-result, "seccomp_rule_add_array");
    }
    return {};
  };
  if (!repeated) {
    return add(conditions.data(), conditions.size());
  }
  for (const scmp_arg_cmp& condition : conditions) {
    if (auto added = add(&condition, 1); !added) {
      return added;
    }
  }
  return {};
}

Expected<void> AddRules(void* filter, const Json& section, uint32_t default_action,
                        RuntimeKind kind) {
  for (const Json& rule : Member(section, "syscalls", Json::array())) {
    const auto action = Action(rule.at("action").get<std::string>(),
                               Member(rule, "errnoRet", EPERM).get<uint32_t>());
    if (!action) {
      return MakeError(EINVAL, "action");
    }
    if (*action == default_action) {
      continue;
    }
    for (const Json& name : Member(rule, "names", Json::array())) {
      if (kind != RuntimeKind::kCrun && *action == SCMP_ACT_NOTIFY && name == "write") {
        return MakeError(EINVAL, "SCMP_ACT_NOTIFY for write");
      }
      const int number = seccomp_syscall_resolve_name(name.get<std::string>().c_str());
      if (number == __NR_SCMP_ERROR) {
        continue;
      }
      if (auto added = AddRule(filter, *action, number, Member(rule, "args", Json::array()), kind);
          !added) {
        return std::unexpected(std::move(added.error()).Context(name.get<std::string>()));
      }
    }
  }
  return {};
}

Expected<BpfProgram> Export(void* filter) {
  const UniqueFd fd(memfd_create("bpf", MFD_CLOEXEC));
  if (const int result = seccomp_export_bpf(filter, fd.get()); result < 0) {
    return ErrnoError(-result, "seccomp_export_bpf");
  }
  const off_t size = lseek(fd.get(), 0, SEEK_END);
  BpfProgram program(static_cast<size_t>(size) / sizeof(sock_filter));
  if (pread(fd.get(), program.data(), static_cast<size_t>(size), 0) != size) {
    return ErrnoError("pread");
  }
  if (program.size() > BPF_MAXINSNS) {
    return MakeError(E2BIG, fmt::format("{} instructions", program.size()));
  }
  return program;
}

size_t CountNames(const Json& section) {
  size_t count = 0;
  for (const Json& rule : Member(section, "syscalls", Json::array())) {
    count += Member(rule, "names", Json::array()).size();
  }
  return count;
}

}  // namespace

Expected<BpfProgram> BuildFilter(const Json& section, RuntimeKind kind) {
  const auto default_action = Action(section.at("defaultAction").get<std::string>(),
                                     Member(section, "defaultErrnoRet", EPERM).get<uint32_t>());
  if (!default_action) {
    return MakeError(EINVAL, "defaultAction");
  }
  if (*default_action == SCMP_ACT_NOTIFY && kind != RuntimeKind::kCrun) {
    return MakeError(EINVAL, "SCMP_ACT_NOTIFY as default action");
  }
  const Filter filter(seccomp_init(*default_action));
  if (!filter) {
    return MakeError(EINVAL, "seccomp_init");
  }
  for (const Json& token : Member(section, "architectures", Json::array())) {
    const auto arch = Arch(token.get<std::string>());
    if (!arch) {
      return MakeError(EINVAL, "architecture");
    }
    const int result = seccomp_arch_add(filter.get(), *arch);
    if (result < 0 && result != -EEXIST) {
      return ErrnoError(-result, "seccomp_arch_add");
    }
  }
  if (kind == RuntimeKind::kRuncSorted && CountNames(section) > 32) {
    seccomp_attr_set(filter.get(), SCMP_FLTATR_CTL_OPTIMIZE, 2);
  }
  if (auto added = AddRules(filter.get(), section, *default_action, kind); !added) {
    return std::unexpected(added.error());
  }
  return Export(filter.get());
}

int LargestNamed(const Json& section, uint32_t arch) {
  int largest = 0;
  for (const Json& rule : Member(section, "syscalls", Json::array())) {
    for (const Json& name : Member(rule, "names", Json::array())) {
      largest = std::max(largest,
                         seccomp_syscall_resolve_name_arch(arch, name.get<std::string>().c_str()));
    }
  }
  return largest;
}

}  // namespace oakum::oci
