#include "agent/caller/connect_guard.h"

#include <fcntl.h>
#include <linux/bpf.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <new>
#include <vector>

namespace oakum::agent {

namespace {

int Bpf(bpf_cmd command, bpf_attr& attr) {
  return static_cast<int>(syscall(SYS_bpf, command, &attr, sizeof attr));
}

constexpr bpf_insn Instruction(int code, int dst, int src, int16_t offset, int32_t immediate) {
  bpf_insn insn = {};
  insn.code = static_cast<uint8_t>(code);
  insn.dst_reg = static_cast<uint8_t>(dst & 0xf);
  insn.src_reg = static_cast<uint8_t>(src & 0xf);
  insn.off = offset;
  insn.imm = immediate;
  return insn;
}

constexpr uint32_t kMaxGuardedCgroups = 16384;

UniqueFd CreateMap() {
  bpf_attr attr = {};
  attr.map_type = BPF_MAP_TYPE_HASH;
  attr.key_size = sizeof(uint64_t);
  attr.value_size = sizeof(uint32_t);
  attr.max_entries = kMaxGuardedCgroups;
  attr.map_flags = BPF_F_NO_PREALLOC;
  memcpy(attr.map_name, "oakum_cgroups", sizeof "oakum_cgroups");
  return UniqueFd(Bpf(BPF_MAP_CREATE, attr));
}

// Looks each cgroup that the caller is in, from the root on, up in the map; returns 0 (EPERM) if
// one is there, else 1.
std::vector<bpf_insn> Program(int map_fd) {
  constexpr int kMove = BPF_ALU64 | BPF_MOV | BPF_K;
  constexpr int kAdd = BPF_ALU64;           // | BPF_ADD | BPF_K, which are 0
  constexpr int kLoadImmediate64 = BPF_DW;  // | BPF_LD | BPF_IMM, which are 0
  constexpr int16_t kKey = -8;              // on the stack
  constexpr size_t kPerLevel = 10;
  constexpr size_t kAllow = kPerLevel * kMaxGuardedLevel;
  constexpr size_t kDeny = kAllow + 2;
  std::vector<bpf_insn> code;
  code.reserve(kDeny + 2);
  const auto jump = [&code](int operation, size_t target) {
    const auto offset = static_cast<int16_t>(target - code.size() - 1);
    code.push_back(Instruction(BPF_JMP | operation | BPF_K, BPF_REG_0, 0, offset, 0));
  };
  for (uint32_t level = 1; level <= kMaxGuardedLevel; ++level) {
    code.push_back(Instruction(kMove, BPF_REG_1, 0, 0, static_cast<int32_t>(level)));
    code.push_back(
        Instruction(BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_get_current_ancestor_cgroup_id));
    jump(BPF_JEQ, kAllow);  // the caller's own cgroup is less deep
    code.push_back(Instruction(BPF_STX | BPF_MEM | BPF_DW, BPF_REG_10, BPF_REG_0, kKey, 0));
    code.push_back(Instruction(BPF_ALU64 | BPF_MOV | BPF_X, BPF_REG_2, BPF_REG_10, 0, 0));
    code.push_back(Instruction(kAdd, BPF_REG_2, 0, 0, kKey));
    code.push_back(Instruction(kLoadImmediate64, BPF_REG_1, BPF_PSEUDO_MAP_FD, 0, map_fd));
    code.push_back(Instruction(0, 0, 0, 0, 0));
    code.push_back(Instruction(BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_map_lookup_elem));
    jump(BPF_JNE, kDeny);
  }
  for (const int32_t verdict : {1, 0}) {
    code.push_back(Instruction(kMove, BPF_REG_0, 0, 0, verdict));
    code.push_back(Instruction(BPF_JMP | BPF_EXIT, 0, 0, 0, 0));
  }
  return code;
}

Expected<UniqueFd> LoadAndLink(int cgroup_fd, bpf_attach_type type,
                               const std::vector<bpf_insn>& code) {
  static constexpr char kLicense[] = "Apache-2.0";
  bpf_attr attr = {};
  attr.prog_type = BPF_PROG_TYPE_CGROUP_SOCK_ADDR;
  attr.expected_attach_type = type;
  attr.insns = reinterpret_cast<uintptr_t>(code.data());
  attr.insn_cnt = static_cast<uint32_t>(code.size());
  attr.license = reinterpret_cast<uintptr_t>(kLicense);
  memcpy(attr.prog_name, "oakum_connect", sizeof "oakum_connect");
  const UniqueFd program(Bpf(BPF_PROG_LOAD, attr));
  if (!program) {
    return ErrnoError("load a cgroup program");
  }
  attr = {};
  attr.link_create.prog_fd = static_cast<uint32_t>(program.get());
  attr.link_create.target_fd = static_cast<uint32_t>(cgroup_fd);
  attr.link_create.attach_type = type;
  UniqueFd link(Bpf(BPF_LINK_CREATE, attr));
  if (!link) {
    return ErrnoError("attach a cgroup program");
  }
  return link;
}

}  // namespace

Expected<uint64_t> CgroupId(int cgroup_fd) {
  uint64_t id = 0;
  alignas(file_handle) std::array<std::byte, sizeof(file_handle) + sizeof id> buffer = {};
  auto* handle = new (buffer.data()) file_handle{};
  handle->handle_bytes = sizeof id;
  int mount = 0;
  if (name_to_handle_at(cgroup_fd, "", handle, &mount, AT_EMPTY_PATH) != 0) {
    return ErrnoError("name_to_handle_at of a cgroup");
  }
  if (handle->handle_bytes != sizeof id) {
    return MakeError(EINVAL, "a cgroup's file handle is not its id");
  }
  memcpy(&id, buffer.data() + sizeof(file_handle), sizeof id);
  return id;
}

Expected<ConnectGuard> ConnectGuard::Attach(int root_cgroup_fd) {
  UniqueFd cgroups = CreateMap();
  if (!cgroups) {
    return ErrnoError("make a map of cgroups");
  }
  const std::vector<bpf_insn> code = Program(cgroups.get());
  auto inet4 = LoadAndLink(root_cgroup_fd, BPF_CGROUP_INET4_CONNECT, code);
  if (!inet4) {
    return std::unexpected(std::move(inet4.error()));
  }
  auto inet6 = LoadAndLink(root_cgroup_fd, BPF_CGROUP_INET6_CONNECT, code);
  if (!inet6) {
    return std::unexpected(std::move(inet6.error()));
  }
  return ConnectGuard(std::move(cgroups), std::move(*inet4), std::move(*inet6));
}

Expected<void> ConnectGuard::Add(uint64_t cgroup_id) {
  constexpr uint32_t kThere = 1;
  bpf_attr attr = {};
  attr.map_fd = static_cast<uint32_t>(cgroups_.get());
  attr.key = reinterpret_cast<uintptr_t>(&cgroup_id);
  attr.value = reinterpret_cast<uintptr_t>(&kThere);
  if (Bpf(BPF_MAP_UPDATE_ELEM, attr) != 0) {
    return ErrnoError("guard a cgroup");
  }
  return {};
}

void ConnectGuard::Remove(uint64_t cgroup_id) {
  bpf_attr attr = {};
  attr.map_fd = static_cast<uint32_t>(cgroups_.get());
  attr.key = reinterpret_cast<uintptr_t>(&cgroup_id);
  (void)Bpf(BPF_MAP_DELETE_ELEM, attr);  // it is there
}

Expected<void> GuardedCgroups::Add(int root_cgroup_fd, uint64_t cgroup_id) {
  const std::lock_guard lock(mutex_);
  if (!guard_) {
    auto attached = ConnectGuard::Attach(root_cgroup_fd);
    if (!attached) {
      return std::unexpected(std::move(attached.error()));
    }
    guard_.emplace(std::move(*attached));
  }
  if (reasons_[cgroup_id] == 0) {
    if (auto added = guard_->Add(cgroup_id); !added) {
      reasons_.erase(cgroup_id);
      return added;
    }
  }
  ++reasons_[cgroup_id];
  return {};
}

void GuardedCgroups::Remove(uint64_t cgroup_id) {
  const std::lock_guard lock(mutex_);
  const auto found = reasons_.find(cgroup_id);
  if (found == reasons_.end() || --found->second > 0) {
    return;
  }
  reasons_.erase(found);
  if (reasons_.empty()) {
    guard_.reset();
  } else {
    guard_->Remove(cgroup_id);
  }
}

}  // namespace oakum::agent
