#include "agent/proxy/kept_sockets.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

namespace oakum::agent {

bool KeptSockets::AreIn(int names_fd) {
  struct stat status = {};
  return fstat(names_fd, &status) == 0 && status.st_size >= kPlace + static_cast<off_t>(kSize);
}

std::shared_ptr<KeptSockets> KeptSockets::In(int names_fd) {
  struct stat status = {};
  const off_t end = kPlace + static_cast<off_t>(kSize);
  if (fstat(names_fd, &status) != 0 || (status.st_size < end && ftruncate(names_fd, end) != 0)) {
    return nullptr;
  }
  void* const memory = mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_SHARED, names_fd, kPlace);
  if (memory == MAP_FAILED) {
    return nullptr;
  }
  return std::shared_ptr<KeptSockets>(new KeptSockets(static_cast<Record*>(memory)));
}

KeptSockets::KeptSockets(Record* memory)
    : memory_(memory), next_(std::max<uint64_t>(memory->number.load(), 1)) {
  if (At(next_).number.load() == next_) {
    ++next_;  // written, and not counted yet
  }
}

KeptSockets::~KeptSockets() { (void)munmap(memory_, kSize); }

void KeptSockets::Add(const std::function<void(Record&)>& fill) {
  const std::lock_guard lock(mutex_);
  Record& record = At(next_);
  (void)record.number.exchange(0);  // before what follows
  fill(record);
  record.number.store(next_, std::memory_order_release);
  memory_->number.store(++next_, std::memory_order_release);
}

void KeptSockets::Add(const Peer& peer) {
  Add([&](Record& record) {
    record.kind = Kind::kPeer;
    record.cookie = peer.cookie;
    record.ip = peer.asked_for.ip.bytes();
    record.port = peer.asked_for.port;
  });
}

void KeptSockets::Add(const Sender& sender) {
  Add([&](Record& record) {
    record.kind = Kind::kSender;
    record.cookie = sender.cookie;
    record.netns = sender.netns;
    record.start_time = sender.start_time;
    record.port = sender.local_port;
    record.tid = sender.tid;
    record.tgid = sender.tgid;
  });
}

void KeptSockets::Read(const std::function<void(const Peer&)>& take_peer,
                       const std::function<void(const Sender&)>& take_sender) const {
  const std::lock_guard lock(mutex_);
  const uint64_t first = next_ > kMaxRecords ? next_ - kMaxRecords : 1;
  for (uint64_t number = first; number < next_; ++number) {
    const Record& record = At(number);
    if (record.number.load(std::memory_order_acquire) != number) {
      continue;  // whoever wrote it did not come to its end
    }
    switch (record.kind) {
      case Kind::kPeer:
        take_peer({record.cookie, {policy::IpAddress(record.ip), record.port}});
        break;
      case Kind::kSender:
        take_sender(
            {record.cookie, record.netns, record.port, record.tid, record.tgid, record.start_time});
        break;
    }
  }
}

}  // namespace oakum::agent
