// What the next agent has to know of sockets of a container that are carried, and that nothing else
// tells.
#ifndef OAKUM_AGENT_PROXY_KEPT_SOCKETS_H_
#define OAKUM_AGENT_PROXY_KEPT_SOCKETS_H_

#include <sys/types.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>

#include "policy/address.h"

namespace oakum::agent {

// Records in memory that outlives the agent, behind those of the names that the container was told
// (NamesFile), each there as a whole or not at all; the oldest give way. A record says what a
// socket is and never how far it has come, so that none is out of date. Thread-safe.
class KeptSockets {
 public:
  static constexpr size_t kMaxRecords = 16'384;

  // Where the socket leads, as its program asked for it (Peers).
  struct Peer {
    uint64_t cookie = 0;
    policy::Endpoint asked_for;  // port 0: nowhere any more
  };
  // A datagram socket that may send to gates (CarriedSockets).
  struct Sender {
    uint64_t cookie = 0;
    uint64_t netns = 0;
    uint16_t local_port = 0;
    pid_t tid = 0;
    pid_t tgid = 0;
    uint64_t start_time = 0;
  };

  // Whether some were ever put into that file.
  [[nodiscard]] static bool AreIn(int names_fd);
  // Those in that file, to which it adds; null where there is no memory for them.
  [[nodiscard]] static std::shared_ptr<KeptSockets> In(int names_fd);
  ~KeptSockets();
  KeptSockets(const KeptSockets&) = delete;
  KeptSockets& operator=(const KeptSockets&) = delete;

  void Add(const Peer& peer);
  void Add(const Sender& sender);
  // In the order in which they were added.
  void Read(const std::function<void(const Peer&)>& take_peer,
            const std::function<void(const Sender&)>& take_sender) const;

 private:
  enum class Kind : uint16_t { kPeer = 1, kSender = 2 };
  // Its number is written last: in the place of another one it is there once that is.
  struct Record {
    std::atomic<uint64_t> number;  // from 1 on; 0: none
    uint64_t cookie;
    uint64_t netns;
    uint64_t start_time;
    std::array<uint8_t, 16> ip;
    Kind kind;
    uint16_t port;
    int32_t tid;
    int32_t tgid;
    uint32_t unused;
  };
  static_assert(sizeof(Record) == 64);
  // Beyond all that NamesFile ever writes.
  static constexpr off_t kPlace = off_t{1} << 33;
  // The number of the next one, then the records.
  static constexpr size_t kSize = (1 + kMaxRecords) * sizeof(Record);

  explicit KeptSockets(Record* memory);
  [[nodiscard]] Record& At(uint64_t number) const { return memory_[1 + number % kMaxRecords]; }
  // With `fill` under mutex_.
  void Add(const std::function<void(Record&)>& fill);

  Record* const memory_;
  mutable std::mutex mutex_;
  uint64_t next_ = 1;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_PROXY_KEPT_SOCKETS_H_
