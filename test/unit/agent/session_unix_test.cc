// Unix sockets under other names, and swapped while a call is decided. Each way is first shown to
// be open without a guard.
#include <linux/openat2.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include <array>
#include <atomic>
#include <filesystem>
#include <map>

#include "test/unit/agent/guarded_session.h"

namespace oakum::agent {
namespace {

class Directory {
 public:
  Directory() {
    char path[] = "/tmp/oakum-unix-XXXXXX";
    path_ = mkdtemp(path);
    EXPECT_EQ(chmod(path_.c_str(), 0755), 0);
  }
  ~Directory() { std::filesystem::remove_all(path_); }
  std::string operator/(std::string_view name) const { return fmt::format("{}/{}", path_, name); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// A path, or "@name" for an abstract one.
struct UnixAddress {
  explicit UnixAddress(std::string_view name) {
    un.sun_family = AF_UNIX;
    memcpy(un.sun_path, name.data(), name.size());
    length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size());
    if (name.starts_with('@')) {
      un.sun_path[0] = '\0';
    } else {
      ++length;
    }
  }
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&un); }
  sockaddr_un un = {};
  socklen_t length = 0;
};

class UnixServer {
 public:
  UnixServer(const std::string& name, int type) : fd_(socket(AF_UNIX, type | SOCK_CLOEXEC, 0)) {
    const UnixAddress address(name);
    EXPECT_EQ(bind(fd_.get(), address.get(), address.length), 0) << strerror(errno);
    if (type != SOCK_DGRAM) {
      EXPECT_EQ(listen(fd_.get(), 64), 0);
    }
  }
  // How many connections or datagrams have come. They are there as soon as the caller has returned.
  int Drain() const {
    int count = 0;
    char buffer[16];
    for (;;) {
      const int accepted = accept4(fd_.get(), nullptr, nullptr, SOCK_NONBLOCK);
      if (accepted >= 0) {
        close(accepted);
      } else if (recv(fd_.get(), buffer, sizeof buffer, MSG_DONTWAIT) < 0) {
        return count;
      }
      ++count;
    }
  }
  void MakeNonBlocking() const { ASSERT_EQ(fcntl(fd_.get(), F_SETFL, O_NONBLOCK), 0); }

 private:
  UniqueFd fd_;
};

int ConnectUnixError(const std::string& path, int type = SOCK_STREAM) {
  const UniqueFd fd(socket(AF_UNIX, type, 0));
  const UnixAddress address(path);
  return fd && connect(fd.get(), address.get(), address.length) == 0 ? 0 : errno;
}

int SendUnixError(const std::string& path, std::string_view how) {
  const UniqueFd fd(socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0));
  UnixAddress address(path);
  iovec piece = {const_cast<char*>("x"), 1};
  mmsghdr message = {};
  message.msg_hdr.msg_name = &address.un;
  message.msg_hdr.msg_namelen = address.length;
  message.msg_hdr.msg_iov = &piece;
  message.msg_hdr.msg_iovlen = 1;
  long sent = -1;
  if (how == "sendto") {
    sent = sendto(fd.get(), "x", 1, 0, address.get(), address.length);
  } else if (how == "sendmsg") {
    sent = sendmsg(fd.get(), &message.msg_hdr, 0);
  } else if (how == "sendmmsg") {
    sent = sendmmsg(fd.get(), &message, 1, 0);
  } else {
    sent = connect(fd.get(), address.get(), address.length) == 0 ? send(fd.get(), "x", 1, 0) : -1;
  }
  return sent == 1 ? 0 : errno;
}

int RunUnguarded(const std::function<int(int)>& body) {
  GuardedProcess process({}, body);
  process.Go();
  return process.Wait();
}

// With sessions of its own each time: the child is forked while nothing else goes on in this
// process.
int RunGuarded(const std::string& policy, const std::function<int(int)>& body) {
  Guarded guarded(policy);
  return guarded.Run(body);
}

std::string DenyUnix(std::string_view rules, std::string_view more = R"("default": "allow")") {
  return Policies("enforce", fmt::format(R"("outgoing": {{"default": "allow"}},
      "unix": {{{}, "deny": [{}]}})",
                                         more, rules));
}

bool PrivateMounts() {
  return unshare(CLONE_NEWNS) == 0 &&
         mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0;
}

// One way to reach a socket at `directory`/secret/socket under another name; returns an errno
// value.
struct Way {
  const char* name;
  int (*reach)(const Directory& directory);
  // What a guard answers where no rule is in the way: descriptors in /proc are followed by the name
  // of what they are.
  int guarded = 0;
};

const Way kWays[] = {
    {"its own name",
     [](const Directory& directory) { return ConnectUnixError(directory / "secret/socket"); }},
    {"a symbolic link",
     [](const Directory& directory) {
       (void)!symlink("secret/socket", (directory / "link").c_str());
       return ConnectUnixError(directory / "link");
     }},
    {"a hard link",
     [](const Directory& directory) {
       (void)!link((directory / "secret/socket").c_str(), (directory / "hard").c_str());
       const int error = ConnectUnixError(directory / "hard");
       unlink((directory / "hard").c_str());
       return error;
     }},
    {"a link to its directory",
     [](const Directory& directory) {
       (void)!symlink("secret", (directory / "directory").c_str());
       return ConnectUnixError(directory / "directory/socket");
     }},
    {"a relative path",
     [](const Directory& directory) {
       (void)!chdir((directory / "secret").c_str());
       return ConnectUnixError("socket");
     }},
    {"dots",
     [](const Directory& directory) {
       return ConnectUnixError(directory / "secret/../secret/./socket");
     }},
    {"/proc/self/root",
     [](const Directory& directory) {
       return ConnectUnixError("/proc/self/root" + (directory / "secret/socket"));
     }},
    {"/proc/self/cwd",
     [](const Directory& directory) {
       (void)!chdir((directory / "secret").c_str());
       return ConnectUnixError("/proc/self/cwd/socket");
     }},
    {"a descriptor of the file",
     [](const Directory& directory) {
       const int fd = open((directory / "secret/socket").c_str(), O_PATH);
       return ConnectUnixError(fmt::format("/proc/self/fd/{}", fd));
     }},
    {"a descriptor of its directory",
     [](const Directory& directory) {
       const int fd = open((directory / "secret").c_str(), O_PATH | O_DIRECTORY);
       return ConnectUnixError(fmt::format("/dev/fd/{}/socket", fd));
     }},
    {"a bind mount of its own",
     [](const Directory& directory) {
       const std::string point = directory / "point";
       close(open(point.c_str(), O_CREAT | O_WRONLY, 0600));
       const bool mounted = PrivateMounts() && mount((directory / "secret/socket").c_str(),
                                                     point.c_str(), nullptr, MS_BIND, nullptr) == 0;
       return mounted ? ConnectUnixError(point) : EIO;
     }},
    {"a bind mount of its directory",
     [](const Directory& directory) {
       const std::string point = directory / "mounted";
       mkdir(point.c_str(), 0700);
       const bool mounted = PrivateMounts() && mount((directory / "secret").c_str(), point.c_str(),
                                                     nullptr, MS_BIND, nullptr) == 0;
       return mounted ? ConnectUnixError(point + "/socket") : EIO;
     }},
    {"a root of its own",
     [](const Directory& directory) {
       return chroot((directory / "secret").c_str()) == 0 ? ConnectUnixError("/socket") : EIO;
     }},
    {"a root of its own in a mount namespace of its own",
     [](const Directory& directory) {
       return PrivateMounts() && chroot((directory / "secret").c_str()) == 0
                  ? ConnectUnixError("/socket")
                  : EIO;
     }},
    {"a mount over its name",
     [](const Directory& directory) {
       // What the rule's path leads to in the program's own namespace is another socket.
       const int inside = open((directory / "secret").c_str(), O_PATH | O_DIRECTORY);
       const bool mounted = PrivateMounts() &&
                            mount("none", (directory / "secret").c_str(), "tmpfs", 0, nullptr) == 0;
       (void)!fchdir(inside);
       return mounted ? ConnectUnixError(fmt::format("/proc/self/fd/{}/socket", inside)) : EIO;
     },
     ENOENT},
};

class NamesTest : public testing::TestWithParam<Way> {};

TEST_P(NamesTest, ADeniedSocketHasNoOtherName) {
  if (getuid() != 0) {
    GTEST_SKIP() << "needs root: mounts";
  }
  for (const std::string_view rule : {"socket", "**"}) {
    const Directory directory;
    ASSERT_EQ(mkdir((directory / "secret").c_str(), 0755), 0);
    const UnixServer server(directory / "secret/socket", SOCK_STREAM);
    server.MakeNonBlocking();
    const auto body = [&](int) { return GetParam().reach(directory); };
    const int bare = RunUnguarded(body);
    ASSERT_EQ(bare, 0) << "the way is not even open natively: " << strerror(bare);
    ASSERT_EQ(server.Drain(), 1);
    const std::string denied_policy(
        DenyUnix(fmt::format(R"("{}/secret/{}")", directory.path(), rule)));
    EXPECT_EQ(RunGuarded(denied_policy, body),
              GetParam().guarded == 0 ? EACCES : GetParam().guarded);
    EXPECT_EQ(server.Drain(), 0);
    // The same guard lets it through where no rule is in the way.
    const std::string allowed_policy(DenyUnix(fmt::format(R"("{}/other")", directory.path())));
    EXPECT_EQ(RunGuarded(allowed_policy, body), GetParam().guarded);
    EXPECT_EQ(server.Drain(), GetParam().guarded == 0 ? 1 : 0);
  }
}

// A socket that a test reaches by datagrams: all the calls that name it.
constexpr std::string_view kSends[] = {"sendto", "sendmsg", "sendmmsg", "connect"};

TEST(UnixSessionTest, DatagramsAreDecidedByTheFileTheyReach) {
  const Directory directory;
  const UnixServer denied(directory / "denied", SOCK_DGRAM);
  const UnixServer allowed(directory / "allowed", SOCK_DGRAM);
  ASSERT_EQ(symlink("denied", (directory / "link").c_str()), 0);
  for (const std::string_view how : kSends) {
    for (const char* name : {"denied", "link"}) {
      const auto body = [&](int) { return SendUnixError(directory / name, how); };
      ASSERT_EQ(RunUnguarded(body), 0);
      ASSERT_EQ(denied.Drain(), 1);
      const std::string guarded_policy(DenyUnix(fmt::format(R"("{}/denied")", directory.path())));
      EXPECT_EQ(RunGuarded(guarded_policy, body), EACCES) << how << " " << name;
      EXPECT_EQ(RunGuarded(guarded_policy,
                           [&](int) { return SendUnixError(directory / "allowed", how); }),
                0);
      EXPECT_EQ(denied.Drain(), 0);
      EXPECT_EQ(allowed.Drain(), 1);
    }
  }
}

TEST(UnixSessionTest, AbstractNamesAreDecidedAsTheyAre) {
  const std::string name = fmt::format("@oakum-test-{}", getpid());
  const UnixServer denied(name, SOCK_DGRAM);
  const UnixServer allowed(name + "x", SOCK_DGRAM);
  // A name that looks like a path is another one.
  const UnixServer path(fmt::format("@/tmp/oakum-test-{}", getpid()), SOCK_DGRAM);
  for (const std::string_view how : kSends) {
    ASSERT_EQ(RunUnguarded([&](int) { return SendUnixError(name, how); }), 0);
    ASSERT_EQ(denied.Drain(), 1);
    const std::string guarded_policy(DenyUnix(fmt::format(R"("{}", "@/tmp/**")", name)));
    EXPECT_EQ(RunGuarded(guarded_policy, [&](int) { return SendUnixError(name, how); }), EACCES)
        << how;
    EXPECT_EQ(RunGuarded(guarded_policy, [&](int) { return SendUnixError(name + "x", how); }), 0)
        << how;
    EXPECT_EQ(RunGuarded(guarded_policy,
                         [&](int) {
                           return SendUnixError(fmt::format("@/tmp/oakum-test-{}", getppid()), how);
                         }),
              EACCES);
    EXPECT_EQ(denied.Drain(), 0);
    EXPECT_EQ(path.Drain(), 0);
    EXPECT_EQ(allowed.Drain(), 1);
  }
}

// unix(7): the abstract names of another network namespace are not reachable, whatever a rule says.
TEST(UnixSessionTest, AbstractNamesStayInTheirNetworkNamespace) {
  if (getuid() != 0) {
    GTEST_SKIP() << "needs root: a network namespace";
  }
  const std::string name = fmt::format("@oakum-test-{}", getpid());
  const UnixServer server(name, SOCK_DGRAM);
  const std::string guarded_policy(DenyUnix(R"("/nowhere")"));
  const auto elsewhere = [&](int) {
    return unshare(CLONE_NEWNET) == 0 ? SendUnixError(name, "sendto") : EIO;
  };
  EXPECT_EQ(RunUnguarded(elsewhere), ECONNREFUSED);
  EXPECT_EQ(RunGuarded(guarded_policy, elsewhere), ECONNREFUSED);
  EXPECT_EQ(RunGuarded(guarded_policy, [&](int) { return SendUnixError(name, "sendto"); }), 0);
  EXPECT_EQ(server.Drain(), 1);
}

// A socket without a name gets one when it connects with SO_PASSCRED (unix(7), "Autobind feature").
TEST(UnixSessionTest, AutobindIsNative) {
  const Directory directory;
  const UnixServer server(directory / "socket", SOCK_DGRAM);
  const auto body = [&](int) {
    const UniqueFd fd(socket(AF_UNIX, SOCK_DGRAM, 0));
    const UnixAddress address(directory / "socket");
    const int on = 1;
    sockaddr_un own = {};
    socklen_t length = sizeof own;
    if (!fd || setsockopt(fd.get(), SOL_SOCKET, SO_PASSCRED, &on, sizeof on) != 0 ||
        connect(fd.get(), address.get(), address.length) != 0 ||
        getsockname(fd.get(), reinterpret_cast<sockaddr*>(&own), &length) != 0) {
      return 100;
    }
    return static_cast<int>(length) + own.sun_path[0];
  };
  const int bare = RunUnguarded(body);
  EXPECT_EQ(bare, static_cast<int>(sizeof(sa_family_t)) + 6);  // NUL and five digits
  const std::string guarded_policy(DenyUnix(R"("/nowhere")"));
  EXPECT_EQ(RunGuarded(guarded_policy, body), bare);
}

TEST(UnixSessionTest, ADeniedSocketStaysDeniedUnderANewName) {
  const Directory directory;
  const UnixServer server(directory / "denied", SOCK_STREAM);
  server.MakeNonBlocking();
  const auto body = [&](int) {
    return rename((directory / "denied").c_str(), (directory / "new").c_str()) == 0
               ? ConnectUnixError(directory / "new")
               : EIO;
  };
  ASSERT_EQ(RunUnguarded(body), 0);
  ASSERT_EQ(server.Drain(), 1);
  ASSERT_EQ(rename((directory / "new").c_str(), (directory / "denied").c_str()), 0);
  const std::string guarded_policy(DenyUnix(fmt::format(R"("{}/denied")", directory.path())));
  // The session has looked at the rule's path by the time it answers its first call.
  EXPECT_EQ(RunGuarded(guarded_policy,
                       [&](int) {
                         const int first = ConnectUnixError(directory / "denied");
                         return first == EACCES ? body(0) : 100;
                       }),
            EACCES);
  EXPECT_EQ(server.Drain(), 0);
}

// What a rule allows is the socket at that name, not what a program puts in front of it.
TEST(UnixSessionTest, AnAllowedNameLeadsToNothingElse) {
  if (getuid() != 0) {
    GTEST_SKIP() << "needs root: mounts";
  }
  const Directory directory;
  const UnixServer other(directory / "other", SOCK_STREAM);
  const UnixServer good(directory / "good", SOCK_STREAM);
  other.MakeNonBlocking();
  good.MakeNonBlocking();
  const auto covered = [&](int) {
    const bool mounted =
        PrivateMounts() && mount((directory / "other").c_str(), (directory / "good").c_str(),
                                 nullptr, MS_BIND, nullptr) == 0;
    return mounted ? ConnectUnixError(directory / "good") : EIO;
  };
  const auto linked = [&](int) {
    return symlink("other", (directory / "allowed").c_str()) == 0
               ? ConnectUnixError(directory / "allowed")
               : EIO;
  };
  const auto hard = [&](int) {
    return link((directory / "other").c_str(), (directory / "allowed").c_str()) == 0
               ? ConnectUnixError(directory / "allowed")
               : EIO;
  };
  for (const std::function<int(int)>& body : {std::function<int(int)>(covered), {linked}, {hard}}) {
    ASSERT_EQ(RunUnguarded(body), 0);
    ASSERT_EQ(other.Drain(), 1);
    unlink((directory / "allowed").c_str());
    const std::string guarded_policy(
        Policies("enforce", fmt::format(R"("outgoing": {{"default": "allow"}},
        "unix": {{"default": "deny", "allow": ["{0}/good", "{0}/allowed"]}})",
                                        directory.path())));
    EXPECT_EQ(RunGuarded(guarded_policy, [&](int) { return ConnectUnixError(directory / "good"); }),
              0);
    EXPECT_EQ(RunGuarded(guarded_policy, body), EACCES);
    EXPECT_EQ(other.Drain(), 0);
    EXPECT_EQ(good.Drain(), 1);
    unlink((directory / "allowed").c_str());
  }
}

TEST(UnixSessionTest, SocketsAtTheStartAreReported) {
  const Directory directory;
  const Server denied(SOCK_DGRAM);
  const Server listener(SOCK_STREAM);
  const UnixServer service(directory / "service", SOCK_DGRAM);
  const UniqueFd connected(socket(AF_INET, SOCK_DGRAM, 0));
  const sockaddr_in address = Loopback(denied.port());
  ASSERT_EQ(connect(connected.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address),
            0);
  const UniqueFd listening(dup(listener.fd()));
  const UniqueFd closed(dup(listener.fd()));
  ASSERT_EQ(fcntl(closed.get(), F_SETFD, FD_CLOEXEC), 0);
  const UniqueFd named(socket(AF_UNIX, SOCK_DGRAM, 0));
  const UnixAddress peer(directory / "service");
  ASSERT_EQ(connect(named.get(), peer.get(), peer.length), 0);
  std::array<int, 2> pair{};
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, pair.data()), 0);
  const UniqueFd ends[] = {UniqueFd(pair[0]), UniqueFd(pair[1])};
  Guarded guarded(Policies("kill", R"("outgoing": {"default": "deny"})"));
  // The container is not ended, and what is connected can be used.
  EXPECT_EQ(guarded.Run([&](int) { return send(connected.get(), "x", 1, 0) == 1 ? 0 : 1; }), 0);
  EXPECT_TRUE(denied.Reached());
  std::map<std::string, Event> events;
  for (const Event& event : guarded.sink().events()) {
    EXPECT_TRUE(event.inherited);
    events.emplace(event.detail, event);
  }
  const auto take = [&](const UniqueFd& fd, std::string_view state) {
    return events[fmt::format("descriptor {}{}", fd.get(), state)];
  };
  const Event udp = take(connected, ", connected");
  EXPECT_EQ(udp.verdict, EventVerdict::kAudit);
  EXPECT_EQ(udp.would, policy::Verdict::kDeny);
  EXPECT_TRUE(udp.leak);
  EXPECT_EQ(udp.rule, "outgoing.default deny");
  EXPECT_EQ(udp.transport, policy::Transport::kUdp);
  EXPECT_EQ(udp.destination.port, denied.port());
  EXPECT_NE(udp.source.port, 0);
  const Event tcp = take(listening, ", listening");
  EXPECT_EQ(tcp.verdict, EventVerdict::kAllow);
  EXPECT_EQ(tcp.source.port, listener.port());
  const Event unix_socket = take(named, ", connected");
  EXPECT_EQ(unix_socket.unix_name, directory / "service");
  EXPECT_FALSE(unix_socket.leak);
  EXPECT_FALSE(events.contains(fmt::format("descriptor {}, listening", closed.get())));
  EXPECT_FALSE(events.contains(fmt::format("descriptor {}, connected", pair[0])));
}

#if !defined(__SANITIZE_THREAD__)  // which cannot follow threads of a forked child
// A thread that keeps switching what the name leads to, by renaming symbolic links over it.
TEST(UnixSessionTest, SwitchingTheLinkReachesNothing) {
  const Directory directory;
  const UnixServer denied(directory / "denied", SOCK_DGRAM);
  const UnixServer good(directory / "good", SOCK_DGRAM);
  const auto body = [&](int rounds) {
    return [&, rounds](int) {
      std::atomic<bool> done{false};
      std::thread switcher([&] {
        while (!done.load(std::memory_order_relaxed)) {
          for (const char* target : {"denied", "good"}) {
            (void)!symlink(target, (directory / "next").c_str());
            rename((directory / "next").c_str(), (directory / "link").c_str());
          }
        }
      });
      int sent = 0;
      for (int i = 0; i < rounds; ++i) {
        sent += SendUnixError(directory / "link", "sendto") == 0 ? 1 : 0;
        if (i % 8 == 0) {
          (void)good.Drain();  // the queue is shared with the test's process
        }
      }
      done.store(true);
      switcher.join();
      return sent > 0 ? 0 : 1;
    };
  };
  ASSERT_EQ(symlink("good", (directory / "link").c_str()), 0);
  ASSERT_EQ(RunUnguarded(body(20000)), 0);
  ASSERT_GT(denied.Drain(), 0) << "the race is not even open natively";
  for (const std::string& policy :
       {DenyUnix(fmt::format(R"("{}/denied")", directory.path())),
        DenyUnix(fmt::format(R"("{}/den*")", directory.path())),
        Policies("enforce", fmt::format(R"("outgoing": {{"default": "allow"}},
            "unix": {{"default": "deny", "allow": ["{}/good"]}})",
                                        directory.path()))}) {
    const std::string& guarded_policy = policy;
    EXPECT_EQ(RunGuarded(guarded_policy, body(1000)), 0);
    EXPECT_EQ(denied.Drain(), 0);
  }
}
#endif

INSTANTIATE_TEST_SUITE_P(Ways, NamesTest, testing::ValuesIn(kWays), [](const auto& parameter) {
  std::string name(parameter.param.name);
  std::ranges::replace_if(
      name, [](char c) { return isalnum(static_cast<unsigned char>(c)) == 0; }, '_');
  return name;
});

}  // namespace
}  // namespace oakum::agent
