#include "agent/kept/paired_store.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "agent/kept/keeper_line.h"
#include "agent/kept/keeper_store.h"

namespace oakum::agent {

namespace {

// Of the pipe's two ends: the writing one in the main store, the reading one with the keeper.
constexpr char kLifeName[] = "life";

class PairedStore final : public FdStore {
 public:
  // `in_main`: the names of what is there already.
  PairedStore(std::unique_ptr<FdStore> main, std::string keeper_of, UniqueFd life_in,
              UniqueFd life_out, std::set<std::string> in_main)
      : main_(std::move(main)),
        keeper_of_(std::move(keeper_of)),
        life_in_(std::move(life_in)),
        life_out_(std::move(life_out)),
        in_main_(std::move(in_main)) {}

  Expected<void> Keep(const std::string& name, std::span<const int> fds) override {
    return Keep(name, fds, true);
  }
  Expected<void> TryKeep(const std::string& name, std::span<const int> fds) override {
    return Keep(name, fds, false);
  }
  void Forget(const std::string& name) override {
    bool is_in_main = false;
    {
      const std::lock_guard lock(mutex_);
      is_in_main = in_main_.erase(name) != 0;
    }
    if (is_in_main) {
      main_->Forget(name);
    } else {
      line_.Forget(name);
    }
  }
  bool KeepsAtOnce() const override { return has_keeper_.load(std::memory_order_relaxed); }
  int lost_fd() const override { return KeepsAtOnce() ? line_.fd() : -1; }
  bool loses_connections_only() const override { return true; }
  Expected<void> Renew() override {
    auto found = FindKeeper(keeper_of_, {});
    return found ? Serve(std::move(found->socket)) : std::unexpected(std::move(found.error()));
  }

  Expected<void> Serve(UniqueFd socket) {
    line_.Reset(std::move(socket));
    const int life_fd = life_out_.get();
    if (auto sent = line_.Keep(kLifeName, {&life_fd, 1}); !sent) {
      return sent;
    }
    has_keeper_ = true;
    return {};
  }

 private:
  Expected<void> Keep(const std::string& name, std::span<const int> fds, bool waits) {
    {
      const std::lock_guard lock(mutex_);
      if (in_main_.contains(name)) {
        return {};
      }
    }
    if (has_keeper_ && name.starts_with(kKeptRelayPrefix) && !fds.empty()) {
      // The listener is the main store's: a container's calls are to fail with what that one has.
      std::vector<int> own(fds.begin(), fds.end());
      own.front() = life_out_.get();
      auto kept = waits ? line_.Keep(name, own) : line_.TryKeep(name, own);
      if (!kept && (kept.error().code == EPIPE || kept.error().code == ECONNRESET)) {
        has_keeper_ = false;
      }
      return kept;
    }
    auto kept = waits ? main_->Keep(name, fds) : main_->TryKeep(name, fds);
    if (kept) {
      const std::lock_guard lock(mutex_);
      in_main_.insert(name);
    }
    return kept;
  }

  const std::unique_ptr<FdStore> main_;
  const std::string keeper_of_;
  const UniqueFd life_in_;  // so that the pipe has a writer as long as there is this agent
  const UniqueFd life_out_;
  KeeperLine line_{UniqueFd()};
  std::atomic<bool> has_keeper_{false};
  std::mutex mutex_;
  std::set<std::string> in_main_;
};

// The pipe's writing end, which the main store has from then on; `items` are what it had.
Expected<UniqueFd> Life(std::vector<KeptItem>& items, FdStore& main) {
  const auto known = std::ranges::find(items, kLifeName, &KeptItem::name);
  if (known != items.end() && !known->fds.empty()) {
    UniqueFd life = std::move(known->fds.front());
    items.erase(known);
    return life;
  }
  std::array<int, 2> ends = {-1, -1};
  if (pipe2(ends.data(), O_CLOEXEC | O_NONBLOCK) != 0) {
    return ErrnoError("pipe");
  }
  const UniqueFd out(ends[0]);
  UniqueFd in(ends[1]);
  const int life_fd = in.get();
  if (auto kept = main.Keep(kLifeName, {&life_fd, 1}); !kept) {
    return std::unexpected(std::move(kept.error()));
  }
  return in;
}

}  // namespace

Expected<OpenedStore> OpenPairedStore(OpenedStore main, const std::string& keeper_of,
                                      std::chrono::milliseconds patience) {
  auto life_in = Life(main.items, *main.store);
  if (!life_in) {
    return std::unexpected(std::move(life_in.error()));
  }
  UniqueFd life_out(open(fmt::format("/proc/self/fd/{}", life_in->get()).c_str(),
                         O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  if (!life_out) {
    return ErrnoError("open the other end of a pipe");
  }
  std::set<std::string> in_main;
  for (const KeptItem& item : main.items) {
    in_main.insert(item.name);
  }
  auto store = std::make_unique<PairedStore>(std::move(main.store), keeper_of, std::move(*life_in),
                                             std::move(life_out), std::move(in_main));
  auto keeper = FindKeeper(keeper_of, patience);
  if (!keeper && keeper.error().code == ENOTSUP) {
    return std::unexpected(std::move(keeper.error()));
  }
  if (keeper && store->Serve(std::move(keeper->socket))) {
    for (KeptItem& item : keeper->items) {
      if (item.name != kLifeName) {
        main.items.push_back(std::move(item));
      }
    }
  }
  return OpenedStore{std::move(store), std::move(main.items)};
}

}  // namespace oakum::agent
