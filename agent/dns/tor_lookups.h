// Names and addresses looked up by Tor itself: RESOLVE and RESOLVE_PTR (Tor's socks-extensions).
#ifndef OAKUM_AGENT_DNS_TOR_LOOKUPS_H_
#define OAKUM_AGENT_DNS_TOR_LOOKUPS_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/proxy/dial.h"
#include "agent/server/event_loop.h"
#include "policy/address.h"

namespace oakum::agent::dns {

// A circuit may take longer than a program waits: a look-up goes on when nobody waits any more, and
// those who ask again find it under way, or its result.
class TorLookups {
 public:
  struct Result {
    std::optional<ProxyFailure> failure;  // of the proxy; nothing else is set then
    policy::IpAddress ip;                 // of a name
    std::string name;                     // of an address
    bool found = false;                   // false: Tor says that there is none
  };
  using Done = std::function<void(const Result&)>;
  using Start = std::function<std::unique_ptr<Dial>(std::function<void(DialResult)>)>;

  static constexpr size_t kMaxLookups = 4096;  // remembered; the oldest result goes
  static constexpr size_t kMaxUnderWay = 128;  // connections to the proxy
  static constexpr size_t kMaxWaiting = 256;   // for one result
  // How long a result counts; Tor tells no TTL. What was not found may be there soon.
  static constexpr std::chrono::seconds kTtl{60};
  static constexpr std::chrono::seconds kNotFoundTtl{5};
  static constexpr std::chrono::seconds kPatience{60};  // with a proxy; then it is asked again

  // `key` tells look-ups apart whose results may differ, `owner` what `key` is a key of: once that
  // has gone, another's may look the same. `start` is called when there is none under way. `done`
  // is called at most once, perhaps from inside; not for a look-up that was given up because newer
  // ones need its place.
  void Find(const std::string& key, const std::weak_ptr<const void>& owner, const Start& start,
            Done done);

 private:
  struct Lookup {
    std::unique_ptr<Dial> dial;  // while it is under way
    std::weak_ptr<const void> owner;
    std::vector<Done> waiting;
    Result result;
    EventLoop::Clock::time_point until;  // which the result counts, or the proxy has time
    std::list<std::string>::iterator order;
  };

  void MakeRoom();
  void Finished(const std::string& key, const DialResult& dialled);
  void Erase(std::map<std::string, Lookup>::iterator which);

  std::map<std::string, Lookup> lookups_;
  std::list<std::string> order_;  // the newest first
  size_t under_way_ = 0;
};

}  // namespace oakum::agent::dns

#endif  // OAKUM_AGENT_DNS_TOR_LOOKUPS_H_
