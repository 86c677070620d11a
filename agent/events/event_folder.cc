#include "agent/events/event_folder.h"

#include <functional>
#include <limits>
#include <string_view>
#include <utility>

namespace oakum::agent {

namespace {

// How many containers' budgets are remembered before those that have ended are swept.
constexpr size_t kMaxBudgets = 1'024;

void Mix(uint64_t value, uint64_t& hash) {
  hash = (hash ^ value) * 0x9e3779b97f4a7c15;
  hash ^= hash >> 32;
}

void Mix(std::string_view text, uint64_t& hash) { Mix(std::hash<std::string_view>{}(text), hash); }

void Mix(const policy::IpAddress& ip, uint64_t& hash) {
  const auto& bytes = ip.bytes();
  Mix(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()), hash);
}

std::string_view Executable(const Event& event) {
  return event.process ? std::string_view(event.process->executable) : std::string_view();
}

uint64_t SourceHash(const Event& event) {
  uint64_t hash = 1;
  Mix(reinterpret_cast<uintptr_t>(event.source_of.get()), hash);
  Mix(static_cast<uint64_t>(event.verdict) << 1 | (event.leak ? 1 : 0), hash);
  return hash;
}

bool SameSource(const Event& a, const Event& b) {
  return a.source_of == b.source_of && a.verdict == b.verdict && a.leak == b.leak;
}

// Of a peer only the address counts: its port is a new one each time.
uint64_t ExactHash(const Event& event) {
  uint64_t hash = SourceHash(event);
  Mix(static_cast<uint64_t>(event.would) | static_cast<uint64_t>(event.operation) << 8 |
          static_cast<uint64_t>(event.transport) << 16 | static_cast<uint64_t>(event.family) << 24 |
          static_cast<uint64_t>(event.destination.port) << 32,
      hash);
  Mix(static_cast<uint64_t>(event.errno_value), hash);
  Mix(event.destination.ip, hash);
  Mix(event.source.ip, hash);
  Mix(event.domain, hash);
  Mix(event.unix_name, hash);
  Mix(event.syscall, hash);
  Mix(event.detail, hash);
  Mix(static_cast<uint64_t>(event.inherited) | static_cast<uint64_t>(event.proxy_failure) << 1,
      hash);
  Mix(event.rule, hash);
  Mix(Executable(event), hash);
  return hash;
}

bool SameExactly(const Event& a, const Event& b) {
  return SameSource(a, b) && a.inherited == b.inherited && a.would == b.would &&
         a.operation == b.operation && a.transport == b.transport && a.family == b.family &&
         a.errno_value == b.errno_value && a.destination == b.destination &&
         a.source.ip == b.source.ip && a.domain == b.domain && a.proxy_failure == b.proxy_failure &&
         a.unix_name == b.unix_name && a.syscall == b.syscall && a.detail == b.detail &&
         a.rule == b.rule && Executable(a) == Executable(b);
}

}  // namespace

void EventFolder::Write(const Event& event, const EventCounts& counts, std::string& out) {
  serializer_.Append(event, counts, out);
  ++lines_;
  folded_ += counts.count - 1;
  suppressed_ += counts.suppressed;
}

void EventFolder::WriteWindow(Window& window, std::string& out) {
  if (window.pending == 0) {
    return;
  }
  --pending_windows_;
  EventCounts counts;
  switch (window.width) {
    case Width::kExact:
      counts.count = window.pending;
      counts.first_ns = window.first_ns;
      break;
    case Width::kSource:
      counts.suppressed = window.pending - 1;
      break;
  }
  window.pending = 0;
  Write(window.last, counts, out);
}

// Whether the container may have another line in this window of its own.
bool EventFolder::SpendLine(const EventSource* source, int64_t now_ns) {
  if (budgets_.size() >= kMaxBudgets && !budgets_.contains(source)) {
    std::erase_if(budgets_, [&](const auto& entry) { return entry.second.end_ns <= now_ns; });
  }
  SourceBudget& budget = budgets_[source];
  if (budget.end_ns <= now_ns) {
    budget = {.end_ns = now_ns + limits_.window_ns, .lines = 0};
  }
  if (budget.lines >= limits_.source_lines) {
    return false;
  }
  ++budget.lines;
  return true;
}

void EventFolder::EndOldest(std::string& out) {
  const auto found = windows_.find(expiries_.front().hash);
  expiries_.pop_front();
  WriteWindow(found->second, out);
  windows_.erase(found);
}

void EventFolder::Open(uint64_t hash, Window&& window, int64_t now_ns, std::string& out) {
  if (windows_.size() >= limits_.kinds) {
    EndOldest(out);
  }
  if (window.pending != 0) {
    ++pending_windows_;
  }
  windows_.emplace(hash, std::move(window));
  expiries_.push_back({.end_ns = now_ns + limits_.window_ns, .hash = hash});
}

void EventFolder::AddToSource(Event&& event, int64_t now_ns, std::string& out) {
  const uint64_t hash = SourceHash(event);
  const auto found = windows_.find(hash);
  if (found == windows_.end()) {
    Window window{.width = Width::kSource, .last = std::move(event), .singles = 0, .pending = 1};
    window.first_ns = window.last.time_ns;
    Open(hash, std::move(window), now_ns, out);
  } else if (found->second.width == Width::kSource && SameSource(found->second.last, event)) {
    ++found->second.pending;
    found->second.last = std::move(event);
  } else {
    Write(event, {}, out);  // two hashes met: a line too many is better than a wrong sum
  }
}

void EventFolder::Add(Event&& event, uint64_t others, int64_t now_ns, std::string& out) {
  Expire(now_ns, out);
  if (others != 0) {
    Write(event, {.count = 1, .first_ns = 0, .suppressed = others}, out);
    return;
  }
  const uint64_t hash = ExactHash(event);
  const auto found = windows_.find(hash);
  const bool known = found != windows_.end() && found->second.width == Width::kExact &&
                     SameExactly(found->second.last, event);
  if (known && found->second.singles >= limits_.singles) {
    Window& window = found->second;
    if (window.pending++ == 0) {
      window.first_ns = event.time_ns;
      ++pending_windows_;
    }
    window.last = std::move(event);
    return;
  }
  if (!SpendLine(event.source_of.get(), now_ns)) {
    AddToSource(std::move(event), now_ns, out);
    return;
  }
  Write(event, {}, out);
  if (known) {
    ++found->second.singles;
    found->second.last = std::move(event);
  } else if (found == windows_.end()) {
    Window window;
    window.last = std::move(event);
    window.singles = 1;
    Open(hash, std::move(window), now_ns, out);
  }
}

void EventFolder::Expire(int64_t now_ns, std::string& out) {
  while (!expiries_.empty() && expiries_.front().end_ns <= now_ns) {
    EndOldest(out);
  }
}

void EventFolder::Flush(std::string& out) {
  Expire(std::numeric_limits<int64_t>::max(), out);
  budgets_.clear();
}

int64_t EventFolder::NextExpiry() const {
  return pending_windows_ == 0 ? std::numeric_limits<int64_t>::max() : expiries_.front().end_ns;
}

}  // namespace oakum::agent
