#include "agent/dns/tor_lookups.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "agent/dns/host_name.h"
#include "agent/proxy/tls_stream.h"

namespace oakum::agent::dns {

namespace {

TorLookups::Result ToResult(const DialResult& dialled) {
  TorLookups::Result result;
  if (dialled.failure) {
    // Tor answers "host unreachable" for a name that does not exist.
    if (!(dialled.failure->destination && dialled.failure->errno_value == EHOSTUNREACH)) {
      result.failure = dialled.failure;
    }
    return result;
  }
  result.ip = dialled.stream.bound.ip;
  result.name = dialled.stream.resolved_name;
  std::ranges::transform(result.name, result.name.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  result.found = result.name.empty() || IsHostName(result.name);
  return result;
}

bool IsSameOwner(const std::weak_ptr<const void>& a, const std::weak_ptr<const void>& b) {
  return !a.owner_before(b) && !b.owner_before(a);
}

}  // namespace

void TorLookups::Find(const std::string& key, const std::weak_ptr<const void>& owner,
                      const Start& start, Done done) {
  auto found = lookups_.find(key);
  if (found != lookups_.end() && (found->second.until <= EventLoop::Clock::now() ||
                                  !IsSameOwner(found->second.owner, owner))) {
    Erase(found);
    found = lookups_.end();
  }
  if (found != lookups_.end()) {
    if (!found->second.dial) {
      const Result result = found->second.result;  // `done` may ask for another
      done(result);
    } else if (found->second.waiting.size() < kMaxWaiting) {
      found->second.waiting.push_back(std::move(done));
    }
    return;
  }
  MakeRoom();
  order_.push_front(key);
  Lookup& lookup = lookups_[key];
  lookup.order = order_.begin();
  lookup.owner = owner;
  lookup.waiting.push_back(std::move(done));
  lookup.until = EventLoop::Clock::now() + kPatience;
  lookup.dial = start([this, key](const DialResult& dialled) { Finished(key, dialled); });
  ++under_way_;
}

// The oldest go: of those under way too, since newer ones are more likely to be waited for.
void TorLookups::MakeRoom() {
  while (lookups_.size() >= kMaxLookups) {
    Erase(lookups_.find(order_.back()));
  }
  if (under_way_ >= kMaxUnderWay) {
    const auto oldest = std::find_if(order_.rbegin(), order_.rend(), [&](const auto& each) {
      return lookups_.at(each).dial != nullptr;
    });
    Erase(lookups_.find(*oldest));
  }
}

void TorLookups::Finished(const std::string& key, const DialResult& dialled) {
  const auto found = lookups_.find(key);
  if (found == lookups_.end()) {
    return;
  }
  Lookup& lookup = found->second;
  const auto dial = std::move(lookup.dial);
  const auto waiting = std::exchange(lookup.waiting, {});
  --under_way_;
  lookup.result = ToResult(dialled);
  lookup.until = EventLoop::Clock::now() + (lookup.result.found ? kTtl : kNotFoundTtl);
  const Result result = lookup.result;
  if (result.failure) {
    Erase(found);  // the proxy may work for the next one
  }
  for (const Done& done : waiting) {
    done(result);
  }
}

void TorLookups::Erase(std::map<std::string, Lookup>::iterator which) {
  under_way_ -= which->second.dial ? 1 : 0;
  order_.erase(which->second.order);
  lookups_.erase(which);
}

}  // namespace oakum::agent::dns
