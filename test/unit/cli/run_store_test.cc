#include "cli/run_store.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <string>
#include <utility>
#include <vector>

namespace oakum::cli {
namespace {

struct Pipe {
  UniqueFd out;
  UniqueFd in;
};

Pipe MakePipe() {
  std::array<int, 2> ends = {-1, -1};
  EXPECT_EQ(pipe2(ends.data(), O_CLOEXEC | O_NONBLOCK), 0);
  return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

bool IsOpen(int fd) { return fcntl(fd, F_GETFD) >= 0; }

// Whether nobody has the other end any more.
bool HasEnded(const Pipe& pipe) {
  pollfd look = {pipe.out.get(), POLLIN, 0};
  return poll(&look, 1, 0) == 1 && (look.revents & POLLHUP) != 0;
}

class RunStoreTest : public ::testing::Test {
 protected:
  RunStoreTest() : mapped_(std::move(*RunTable::Create())), table_(*mapped_) {}

  const std::unique_ptr<RunTable> mapped_;
  RunTable& table_;
};

#if !defined(__SANITIZE_THREAD__)

TEST_F(RunStoreTest, WhatAKilledProcessHadIsThereForTheNext) {
  Pipe kept = MakePipe();
  Pipe relay = MakePipe();
  Pipe other = MakePipe();
  // The other ends are the guard's.
  const int kept_fd = kept.in.Release();
  const int relay_fd = relay.in.Release();
  const int other_fd = other.in.Release();
  Pipe go = MakePipe();
  table_.NoteOwn();
  for (const int fd : {kept_fd, relay_fd, other_fd}) {
    table_.DropOwn(fd);
  }
  const pid_t keeper = getpid();
  const pid_t guard = ForkSharingDescriptors();
  ASSERT_GE(guard, 0);
  if (guard == 0) {
    RunStore store(table_, go.in.get(), keeper);
    const std::array<int, 2> with_listener = {other_fd, relay_fd};
    const bool done = store.Keep("session-1", std::span(&kept_fd, 1)) &&
                      store.Keep("relay-1", with_listener) && close(kept_fd) == 0;
    if (!done) {
      _exit(1);
    }
    (void)raise(SIGKILL);
    _exit(2);
  }
  int status = 0;
  ASSERT_EQ(waitpid(guard, &status, 0), guard);
  ASSERT_TRUE(WIFSIGNALED(status)) << status;
  EXPECT_FALSE(HasEnded(kept));
  auto items = table_.TakeAll();
  ASSERT_EQ(items.size(), 2U);
  std::ranges::sort(items, {}, &agent::KeptItem::name);
  EXPECT_EQ(items[0].name, "relay-1");
  EXPECT_EQ(items[0].fds.size(), 1U) << "the listener is its session's";
  EXPECT_EQ(items[1].name, "session-1");
  EXPECT_TRUE(HasEnded(other)) << "what nobody keeps is closed";
  EXPECT_FALSE(HasEnded(relay));
  EXPECT_FALSE(HasEnded(kept));
  EXPECT_EQ(write(items[1].fds[0].get(), "x", 1), 1);
  // The records have descriptors of their own, and the next guard forgets them.
  items.clear();
  EXPECT_FALSE(HasEnded(relay));
  RunStore next(table_, go.in.get(), keeper);
  next.Forget("relay-1");
  next.Forget("session-1");
  EXPECT_TRUE(HasEnded(relay));
  char got = 0;
  EXPECT_EQ(read(kept.out.get(), &got, 1), 1);
  EXPECT_TRUE(HasEnded(kept));
}

#endif

TEST_F(RunStoreTest, ANumberThatMeansAnotherFileIsNotTaken) {
  table_.NoteOwn();
  RunStore store(table_, -1, getppid());
  Pipe closed = MakePipe();
  Pipe reused = MakePipe();
  const std::array<int, 2> first = {STDIN_FILENO, closed.in.get()};
  const std::array<int, 2> second = {STDIN_FILENO, reused.in.get()};
  ASSERT_TRUE(store.Keep("relay-closed", first));
  ASSERT_TRUE(store.Keep("relay-reused", second));
  closed.in.Reset();
  const Pipe another = MakePipe();
  ASSERT_EQ(dup2(another.in.get(), reused.in.get()), reused.in.get());
  table_.NoteOwn();
  EXPECT_TRUE(table_.TakeAll().empty());
  EXPECT_TRUE(IsOpen(another.in.get()));
}

TEST_F(RunStoreTest, TheLaterOfANameCounts) {
  RunStore store(table_, -1, getppid());
  Pipe first = MakePipe();
  Pipe second = MakePipe();
  const int first_fd = first.in.get();
  const int second_fd = second.in.get();
  ASSERT_TRUE(store.Keep("session-1", std::span(&first_fd, 1)));
  ASSERT_TRUE(store.Keep("session-1", std::span(&second_fd, 1)));
  first.in.Reset();
  EXPECT_TRUE(HasEnded(first)) << "it has given way";
  second.in.Reset();
  EXPECT_FALSE(HasEnded(second));
  store.Forget("session-1");
  EXPECT_TRUE(HasEnded(second));
}

TEST_F(RunStoreTest, TheTableHasABound) {
  RunStore store(table_, -1, getppid());
  const std::array<int, 2> fds = {STDIN_FILENO, STDIN_FILENO};
  for (size_t i = 0; i < RunTable::kMaxRecords; ++i) {
    ASSERT_TRUE(store.Keep("relay-" + std::to_string(i), fds)) << i;
  }
  const auto beyond = store.Keep("relay-beyond", fds);
  ASSERT_FALSE(beyond);
  EXPECT_EQ(beyond.error().code, ENOSPC);
  store.Forget("relay-7");
  EXPECT_TRUE(store.Keep("relay-beyond", fds));
}

TEST_F(RunStoreTest, WithoutTheKeeperNobodyStartsAProcess) {
  RunStore store(table_, -1, getpid());
  const auto asked = store.SpawnTls(STDIN_FILENO);
  ASSERT_FALSE(asked);
  EXPECT_EQ(asked.error().code, EPIPE);
}

}  // namespace
}  // namespace oakum::cli
