#include "agent/session/session.h"

#include <sched.h>

#include <cerrno>
#include <csignal>
#include <ctime>
#include <utility>

#include "agent/caller/identity.h"
#include "agent/session/concurrent_callers.h"

namespace oakum::agent {

namespace {

// Enough for the deepest path with room to spare; only what is touched takes memory.
constexpr size_t kStackSize = size_t{256} * 1024;

// Without SA_RESTART, so that a blocked receive returns EINTR.
int NudgeSignal() { return SIGRTMIN + 1; }

void InstallHandler() {
  struct sigaction action = {};
  action.sa_handler = [](int) {};
  sigemptyset(&action.sa_mask);
  (void)sigaction(NudgeSignal(), &action, nullptr);
}

}  // namespace

Session::Session(std::shared_ptr<SessionCore> core, Reactor& reactor, SessionOptions options,
                 Ends ends)
    : core_(std::move(core)), reactor_(reactor), options_(options), ends_(std::move(ends)) {}

Expected<std::unique_ptr<Session>> Session::Start(std::shared_ptr<SessionCore> core,
                                                  Reactor& reactor, SessionOptions options,
                                                  Ends ends) {
  InstallHandler();
  std::unique_ptr<Session> session(new Session(std::move(core), reactor, options, std::move(ends)));
  if (auto started = session->Wake(); !started) {
    return std::unexpected(std::move(started.error()));
  }
  return session;
}

Session::~Session() {
  stopping_.store(true);
  // The signal may come just before the receive blocks, so it is repeated.
  while (Nudge()) {
    timespec until = {};
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += 5'000'000;
    if (until.tv_nsec >= 1'000'000'000) {
      until.tv_nsec -= 1'000'000'000;
      ++until.tv_sec;
    }
    if (pthread_timedjoin_np(thread_, nullptr, &until) == 0) {
      return;
    }
  }
}

Expected<void> Session::Wake() {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, kStackSize);
  pthread_t thread{};
  const int error = pthread_create(
      &thread, &attributes,
      [](void* self) -> void* {
        static_cast<Session*>(self)->Loop();
        return nullptr;
      },
      this);
  pthread_attr_destroy(&attributes);
  if (error != 0) {
    return ErrnoError(error, "start a session thread");
  }
  const std::lock_guard lock(thread_mutex_);
  thread_ = thread;
  return {};
}

bool Session::Nudge() {
  const std::lock_guard lock(thread_mutex_);
  if (thread_ == pthread_t{}) {
    return false;
  }
  if (!ended_.load()) {
    pthread_kill(thread_, NudgeSignal());
  }
  return true;
}

bool Session::AskToRest() {
  auto at = Receive::kWaits;
  if (!receive_.compare_exchange_strong(at, Receive::kIsBeingAsked) &&
      !(at == Receive::kAsked && receive_.compare_exchange_strong(at, Receive::kIsBeingAsked))) {
    return false;
  }
  (void)Nudge();
  receive_.store(Receive::kAsked);
  return true;
}

bool Session::StopWaiting() {
  auto at = Receive::kWaits;
  if (receive_.compare_exchange_strong(at, Receive::kNot)) {
    return false;
  }
  at = Receive::kAsked;
  while (!receive_.compare_exchange_strong(at, Receive::kNot)) {
    at = Receive::kAsked;
    sched_yield();
  }
  // The signal has been sent: it is met here, if not before, and not by what comes next.
  sched_yield();
  return true;
}

bool Session::Join() {
  const std::lock_guard lock(thread_mutex_);
  if (thread_ != pthread_t{}) {
    if (pthread_tryjoin_np(thread_, nullptr) != 0) {
      return false;
    }
    thread_ = pthread_t{};
  }
  return true;
}

void Session::Loop() {
  pthread_setname_np(pthread_self(), "session");
  SetEffectiveCapabilities(kPerformerCapabilities);
  if (Work()) {
    core_->LetGo();
    ends_.to_rest();
    return;
  }
  ended_.store(true);
  ends_.for_good();
}

bool Session::Work() {
  const NotifyFd& notify = core_->notify();
  Desk desk(core_, reactor_, options_, notes_);
  Journal* const journal = core_->journal();
  if (journal != nullptr && !std::exchange(took_up_, true)) {
    for (JournalSlot* slot : journal->InUse()) {
      desk.GoOn(slot);
    }
  }
  // Without a journal, or where it is full, a call is noted nowhere.
  const NotifyFd::Buffer buffer = notify.NewBuffer();
  JournalSlot* slot = nullptr;
  GuardedCall call;  // one after the other, of which most have the same source
  // Older kernels wake up more slowly, and do not know the flag. What a signal came before is asked
  // for again with the next call.
  const int refused = options_.use_sync_wake_up ? notify.SetSyncWakeUp(true) : EINVAL;
  const bool may_change = refused != EINVAL;
  bool sync = refused == 0;
  ConcurrentCallers callers;
  bool rests = false;
  while (buffer != nullptr && !rests && !stopping_.load(std::memory_order_relaxed)) {
    if (journal != nullptr && slot == nullptr) {
      slot = journal->Take();
    }
    call.slot = slot;
    call.mark = {};
    if (slot != nullptr) {
      slot->Clear();
    }
    receive_.store(Receive::kWaits, std::memory_order_release);
    const int error =
        notify.Receive(slot != nullptr ? &slot->notification : buffer.get(), call.notification);
    const bool asked = StopWaiting();
    if (error != 0) {
      // ENOENT: this caller has gone, or, for ever, all have.
      if ((error != EINTR && error != ENOENT) || notify.HungUp()) {
        break;
      }
      rests = asked && error == EINTR;
      continue;
    }
    if (may_change) {
      const bool wanted = !callers.Begin(call.notification.tid, ConcurrentCallers::Clock::now);
      if (wanted != sync && notify.SetSyncWakeUp(wanted) == 0) {
        sync = wanted;
      }
    }
    if (!desk.Serve(call)) {
      slot = nullptr;
    }
    callers.End(ConcurrentCallers::Clock::now);
  }
  if (rests && slot != nullptr) {
    journal->Release(slot);
  }
  return rests;
}

}  // namespace oakum::agent
