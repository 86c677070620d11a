#include "agent/proxy/host_resolver.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <deque>
#include <map>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

#include "agent/caller/sockaddr.h"

namespace oakum::agent {

namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kMaxThreads = 4;
constexpr size_t kMaxWaiting = 1024;
constexpr size_t kMaxKept = 256;
constexpr size_t kMaxAddresses = 16;

HostResolver::Answer Resolve(const std::string& host) {
  addrinfo hints = {};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_ADDRCONFIG;
  addrinfo* list = nullptr;
  HostResolver::Answer answer;
  if (const int error = getaddrinfo(host.c_str(), nullptr, &hints, &list); error != 0) {
    answer.error = gai_strerror(error);
    return answer;
  }
  for (const addrinfo* entry = list; entry != nullptr && answer.addresses.size() < kMaxAddresses;
       entry = entry->ai_next) {
    SockaddrCopy copy;
    copy.length = std::min<socklen_t>(entry->ai_addrlen, sizeof copy.storage);
    std::copy_n(reinterpret_cast<const char*>(entry->ai_addr), copy.length,
                reinterpret_cast<char*>(&copy.storage));
    answer.addresses.push_back(ReadEndpoint(copy).ip);
  }
  freeaddrinfo(list);
  if (answer.addresses.empty()) {
    answer.error = "no address";
  }
  return answer;
}

}  // namespace

class HostResolver::Question {
 public:
  Question(std::string host, UniqueFd ready) : host_(std::move(host)), ready_(std::move(ready)) {}

  [[nodiscard]] const std::string& host() const { return host_; }
  [[nodiscard]] int ready_fd() const { return ready_.get(); }
  void Put(Answer answer) {
    const std::lock_guard lock(mutex_);
    answer_ = std::move(answer);
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t put = write(ready_.get(), &one, sizeof one);
  }
  [[nodiscard]] Answer Take() {
    const std::lock_guard lock(mutex_);
    return std::move(answer_);
  }

 private:
  const std::string host_;
  const UniqueFd ready_;
  std::mutex mutex_;
  Answer answer_;
};

struct HostResolver::State {
  struct Kept {
    Answer answer;
    Clock::time_point until;
  };
  std::mutex mutex;
  std::deque<std::shared_ptr<Question>> waiting;
  std::map<std::string, Kept> kept;
  size_t threads = 0;
};

HostResolver::HostResolver() : state_(std::make_shared<State>()) {}

HostResolver::~HostResolver() {
  const std::lock_guard lock(state_->mutex);
  state_->waiting.clear();
}

int HostResolver::ReadyFd(const Question& question) { return question.ready_fd(); }

HostResolver::Answer HostResolver::Take(Question& question) { return question.Take(); }

Expected<std::shared_ptr<HostResolver::Question>> HostResolver::Ask(const std::string& host) {
  UniqueFd ready(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!ready) {
    return ErrnoError("eventfd");
  }
  auto question = std::make_shared<Question>(host, std::move(ready));
  const std::lock_guard lock(state_->mutex);
  if (const auto found = state_->kept.find(host);
      found != state_->kept.end() && found->second.until > Clock::now()) {
    question->Put(found->second.answer);
    return question;
  }
  if (state_->waiting.size() >= kMaxWaiting) {
    return ErrnoError(ENOBUFS, "resolve a proxy's name");
  }
  if (state_->threads < kMaxThreads) {
    try {
      std::thread([state = state_] { Work(state); }).detach();
      ++state_->threads;
    } catch (const std::system_error& error) {
      if (state_->threads == 0) {
        return MakeError(error.code().value(), "start a thread that resolves names");
      }
    }
  }
  state_->waiting.push_back(question);
  return question;
}

void HostResolver::Work(const std::shared_ptr<State>& state) {
  pthread_setname_np(pthread_self(), "proxy-names");
  std::unique_lock lock(state->mutex);
  while (!state->waiting.empty()) {
    const std::shared_ptr<Question> question = state->waiting.front();
    state->waiting.pop_front();
    const auto found = state->kept.find(question->host());
    if (found != state->kept.end() && found->second.until > Clock::now()) {
      question->Put(found->second.answer);
      continue;
    }
    lock.unlock();
    Answer answer = Resolve(question->host());
    lock.lock();
    if (state->kept.size() >= kMaxKept) {
      state->kept.clear();
    }
    const auto time = answer.error.empty() ? kKept : kFailureKept;
    state->kept[question->host()] = {answer, Clock::now() + time};
    question->Put(std::move(answer));
  }
  --state->threads;
}

}  // namespace oakum::agent
