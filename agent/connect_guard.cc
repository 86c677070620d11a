#include "agent/connect_guard.h"

#include <fcntl.h>
#include <linux/bpf.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <new>

namespace oakum::agent {

namespace {

int Bpf(bpf_cmd command, bpf_attr& attr) {
  return static_cast<int>(syscall(SYS_bpf, command, &attr, sizeof attr));
}

// The number that bpf-helpers(7) know the cgroup by: its file handle (cgroup_id(), kernfs).
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

constexpr bpf_insn Instruction(int code, int dst, int src, int16_t offset, int32_t immediate) {
  bpf_insn insn = {};
  insn.code = static_cast<uint8_t>(code);
  insn.dst_reg = static_cast<uint8_t>(dst & 0xf);
  insn.src_reg = static_cast<uint8_t>(src & 0xf);
  insn.off = offset;
  insn.imm = immediate;
  return insn;
}

// return bpf_get_current_ancestor_cgroup_id(level) != id;  0 is EPERM.
Expected<UniqueFd> Load(bpf_attach_type type, uint32_t level, uint64_t id) {
  const std::array<bpf_insn, 9> program = {
      Instruction(BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_1, 0, 0, static_cast<int32_t>(level)),
      Instruction(BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_get_current_ancestor_cgroup_id),
      Instruction(BPF_LD | BPF_DW | BPF_IMM, BPF_REG_1, 0, 0, static_cast<int32_t>(id)),
      Instruction(0, 0, 0, 0, static_cast<int32_t>(id >> 32)),
      Instruction(BPF_JMP | BPF_JEQ | BPF_X, BPF_REG_0, BPF_REG_1, 2, 0),
      Instruction(BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, 1),
      Instruction(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
      Instruction(BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, 0),
      Instruction(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
  };
  static constexpr char kLicense[] = "Apache-2.0";
  bpf_attr attr = {};
  attr.prog_type = BPF_PROG_TYPE_CGROUP_SOCK_ADDR;
  attr.expected_attach_type = type;
  attr.insns = reinterpret_cast<uintptr_t>(program.data());
  attr.insn_cnt = program.size();
  attr.license = reinterpret_cast<uintptr_t>(kLicense);
  memcpy(attr.prog_name, "oakum_connect", sizeof "oakum_connect");
  UniqueFd loaded(Bpf(BPF_PROG_LOAD, attr));
  if (!loaded) {
    return ErrnoError("load a cgroup program");
  }
  return loaded;
}

Expected<UniqueFd> LoadAndLink(int cgroup_fd, bpf_attach_type type, uint32_t level, uint64_t id) {
  const auto program = Load(type, level, id);
  if (!program) {
    return std::unexpected(program.error());
  }
  bpf_attr attr = {};
  attr.link_create.prog_fd = static_cast<uint32_t>(program->get());
  attr.link_create.target_fd = static_cast<uint32_t>(cgroup_fd);
  attr.link_create.attach_type = type;
  UniqueFd link(Bpf(BPF_LINK_CREATE, attr));
  if (!link) {
    return ErrnoError("attach a cgroup program");
  }
  return link;
}

}  // namespace

Expected<ConnectGuard> ConnectGuard::Attach(int cgroup_fd, uint32_t level) {
  const auto id = CgroupId(cgroup_fd);
  if (!id) {
    return std::unexpected(id.error());
  }
  auto inet4 = LoadAndLink(cgroup_fd, BPF_CGROUP_INET4_CONNECT, level, *id);
  if (!inet4) {
    return std::unexpected(std::move(inet4.error()));
  }
  auto inet6 = LoadAndLink(cgroup_fd, BPF_CGROUP_INET6_CONNECT, level, *id);
  if (!inet6) {
    return std::unexpected(std::move(inet6.error()));
  }
  return ConnectGuard(std::move(*inet4), std::move(*inet6));
}

}  // namespace oakum::agent
