#include "agent/caller/process_info.h"

#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <thread>

namespace oakum::agent {
namespace {

void ExpectSame(const std::shared_ptr<const ProcessInfo>& info, pid_t tid) {
  const auto expected = ReadProcessInfo(tid, true);
  ASSERT_NE(info, nullptr);
  ASSERT_NE(expected, nullptr);
  EXPECT_EQ(info->pid, expected->pid);
  EXPECT_EQ(info->uid, expected->uid);
  EXPECT_EQ(info->name, expected->name);
  EXPECT_EQ(info->executable, expected->executable);
  EXPECT_EQ(info->command_line, expected->command_line);
}

// A child that goes on to its next stage for each byte that it is sent, and says so.
class Child {
 public:
  Child() {
    std::array<int, 2> to{};
    std::array<int, 2> from{};
    EXPECT_EQ(pipe2(to.data(), O_CLOEXEC), 0);
    EXPECT_EQ(pipe2(from.data(), O_CLOEXEC), 0);
    pid_ = fork();
    if (pid_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      Stages(to[0], from[1]);
    }
    close(to[0]);
    close(from[1]);
    to_.Reset(to[1]);
    from_.Reset(from[0]);
  }
  ~Child() { End(); }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  [[nodiscard]] pid_t pid() const { return pid_; }
  void Next() {
    char done = 0;
    EXPECT_EQ(write(to_.get(), "n", 1), 1);
    EXPECT_EQ(read(from_.get(), &done, 1), 1);
  }
  void End() {
    if (pid_ > 0) {
      kill(pid_, SIGKILL);
      waitpid(pid_, nullptr, 0);
      pid_ = -1;
    }
  }

 private:
  [[noreturn]] static void Stages(int in, int out) {
    char next = 0;
    const auto wait = [&] {
      if (read(in, &next, 1) != 1) {
        _exit(1);
      }
    };
    const auto done = [&] { (void)!write(out, "d", 1); };
    wait();
    prctl(PR_SET_NAME, "a\nb\\c");
    done();
    wait();
    (void)!setresuid(65534, 65534, 65534);
    done();
    wait();
    program_invocation_name[0] = '!';  // the first byte of its arguments (setproctitle(3))
    done();
    wait();
    // The shell says "d" when it runs, and then waits for its input to end.
    dup2(in, 0);
    dup2(out, 1);
    execl("/bin/sh", "sh", "-c", "printf d; read line; read line", nullptr);
    _exit(1);
  }

  pid_t pid_ = -1;
  UniqueFd to_;
  UniqueFd from_;
};

TEST(ProcessReaderTest, SeesWhatAThreadTurnsInto) {
  ProcessReader reader;
  uint64_t call = 0;
  Child child;
  // So often that what it is known by is looked for and found.
  const auto look = [&] {
    std::shared_ptr<const ProcessInfo> info;
    for (int round = 0; round < 6; ++round) {
      info = reader.Read(child.pid(), ++call);
      ExpectSame(info, child.pid());
    }
    return info;
  };
  look();
  child.Next();
  const auto named = look();
  EXPECT_EQ(named->name, R"(a\nb\\c)");
  const auto is_known = [&] {  // but not for longer than kFresh, on a busy machine
    const auto one = reader.Read(child.pid(), ++call);
    return reader.Read(child.pid(), ++call) == one;
  };
  bool known = false;
  for (int i = 0; i < 1000 && !known; ++i) {
    known = is_known();
  }
  EXPECT_TRUE(known) << "nothing has changed";
  child.Next();
  const auto user = look();
  EXPECT_EQ(user->uid, geteuid() == 0 ? 65534 : geteuid());
  child.Next();
  // That the same program writes over its arguments is seen once what is known of them is older.
  std::this_thread::sleep_for(ProcessReader::kFresh);
  const auto titled = look();
  EXPECT_EQ(titled->command_line.front(), '!');
  child.Next();
  const auto executed = look();
  EXPECT_EQ(executed->command_line, "sh -c printf d; read line; read line");
  EXPECT_NE(executed->executable, user->executable);
}

// A thread that is known well, and the mark of its program as it was read along with a call.
TEST(ProcessReaderTest, TakesAMarkThatWasReadAlongForWhatItIs) {
  ProcessReader reader;
  uint64_t call = 0;
  Child child;
  EXPECT_EQ(reader.MarkOf(child.pid()), 0U);
  std::shared_ptr<const ProcessInfo> info;
  for (int round = 0; round < 200 && reader.MarkOf(child.pid()) == 0; ++round) {
    info = reader.Read(child.pid(), ++call);
  }
  ProgramMark seen = {.address = reader.MarkOf(child.pid())};
  EXPECT_EQ(seen.address, getauxval(AT_RANDOM)) << "the child is a copy of this process";
  memcpy(seen.bytes.data(), reinterpret_cast<const void*>(seen.address),  // NOLINT
         seen.bytes.size());
  EXPECT_EQ(reader.MarkOf(child.pid() + 1), 0U);
  ExpectSame(reader.Read(child.pid(), ++call, seen), child.pid());
  seen.read = true;
  EXPECT_EQ(reader.Read(child.pid(), ++call, seen), info) << "nothing has changed";
  for (int stage = 0; stage < 4; ++stage) {
    child.Next();
  }
  // Another program now, whatever this says: it is not where its mark is, or another one.
  ProgramMark unread = seen;
  unread.read = false;
  ExpectSame(reader.Read(child.pid(), ++call, unread), child.pid());
  seen.bytes[0] ^= 1;
  ExpectSame(reader.Read(child.pid(), ++call, seen), child.pid());
}

TEST(ProcessReaderTest, ReadsOnceForACallUnlessThatTakesLong) {
  ProcessReader reader;
  Child child;
  for (uint64_t call = 1; call < 4; ++call) {
    ExpectSame(reader.Read(child.pid(), call), child.pid());
  }
  const auto before = std::chrono::steady_clock::now();
  const auto first = reader.Read(child.pid(), 4);
  child.Next();
  const auto again = reader.Read(child.pid(), 4);
  if (std::chrono::steady_clock::now() - before < ProcessReader::kFresh) {
    EXPECT_EQ(again, first);
  }
  std::this_thread::sleep_for(ProcessReader::kFresh);
  ExpectSame(reader.Read(child.pid(), 4), child.pid());
}

TEST(ProcessReaderTest, TellsThreadsApart) {
  ProcessReader reader;
  uint64_t call = 0;
  Child one;
  Child other;
  other.Next();
  for (const pid_t pid : {one.pid(), other.pid(), one.pid(), one.pid(), other.pid(), one.pid(),
                          other.pid(), other.pid(), one.pid()}) {
    ExpectSame(reader.Read(pid, ++call), pid);
  }
}

// The descriptors of this process.
size_t CountDescriptors() {
  const std::unique_ptr<DIR, int (*)(DIR*)> entries(opendir("/proc/self/fd"), closedir);
  size_t count = 0;
  while (readdir(entries.get()) != nullptr) {
    ++count;
  }
  return count;
}

TEST(ProcessReaderTest, KeepsTheFilesOfThreadsThatTakeTurnsAndOfNoMoreThanItHasPlacesFor) {
  constexpr size_t kFiles = 3;
  std::map<size_t, std::unique_ptr<Child>> children;  // by the place of their number
  std::unique_ptr<Child> more;
  for (int tries = 0; tries < 1000 && (children.size() < ProcessReader::kThreads || !more);
       ++tries) {
    auto child = std::make_unique<Child>();
    auto& place = children[static_cast<size_t>(child->pid()) % ProcessReader::kThreads];
    (place == nullptr ? place : more) = std::move(child);
  }
  ASSERT_EQ(children.size(), ProcessReader::kThreads);
  ASSERT_NE(more, nullptr);
  const size_t before = CountDescriptors();
  ProcessReader reader;
  uint64_t call = 0;
  for (int round = 0; round < 3; ++round) {
    for (const auto& [place, child] : children) {
      ExpectSame(reader.Read(child->pid(), ++call), child->pid());
    }
  }
  EXPECT_EQ(CountDescriptors() - before, ProcessReader::kThreads * kFiles);
  for (int round = 0; round < 3; ++round) {
    ExpectSame(reader.Read(more->pid(), ++call), more->pid());
  }
  EXPECT_EQ(CountDescriptors() - before, ProcessReader::kThreads * kFiles);
}

TEST(ProcessReaderTest, SaysNothingOfOneThatHasEnded) {
  ProcessReader reader;
  uint64_t call = 0;
  Child child;
  const pid_t pid = child.pid();
  for (int round = 0; round < 3; ++round) {
    EXPECT_NE(reader.Read(pid, ++call), nullptr);
  }
  child.End();
  EXPECT_EQ(reader.Read(pid, ++call), nullptr);
  EXPECT_EQ(reader.Read(pid, ++call), nullptr);
}

}  // namespace
}  // namespace oakum::agent
