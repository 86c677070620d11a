// Sockets that hold a connection, and connections that are begun before there is one.
#include "agent/proxy/held_connection.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <chrono>
#include <thread>
#include <vector>

#include "agent/caller/netns.h"
#include "agent/proxy/carrier.h"
#include "agent/proxy/held_socket.h"
#include "agent/proxy/held_spare.h"
#include "agent/proxy/tcp_socket.h"
#include "scripted_proxy.h"

namespace oakum::agent {
namespace {

// A non-blocking socket that has called connect(2), and errno of that.
UniqueFd Connecting(const SockaddrCopy& address, int& error) {
  UniqueFd fd(socket(address.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  EXPECT_TRUE(fd);
  error = connect(fd.get(), address.get(), address.length) == 0 ? 0 : errno;
  return fd;
}

bool IsWritable(int fd, int milliseconds) {
  pollfd ready = {fd, POLLOUT, 0};
  return poll(&ready, 1, milliseconds) == 1;
}

SockaddrCopy NameOf(int fd) {
  SockaddrCopy name;
  name.length = sizeof name.storage;
  EXPECT_EQ(getsockname(fd, reinterpret_cast<sockaddr*>(&name.storage), &name.length), 0);
  return name;
}

TEST(HeldSocketTest, SeveralOnOnePortAreConnectedEachOnItsOwn) {
  OwnPorts ports;
  auto made = HeldSocket::CreateSome(3, AF_INET, ports);
  ASSERT_TRUE(made.has_value()) << made.error().ToString();
  ASSERT_EQ(made->size(), 3U);
  const SockaddrCopy address = made->front().AddressFor(AF_INET);
  EXPECT_FALSE(ports.empty());
  std::vector<UniqueFd> clients;
  for (int i = 0; i < 3; ++i) {
    int error = 0;
    clients.push_back(Connecting(address, error));
    EXPECT_EQ(error, EINPROGRESS);
  }
  for (const UniqueFd& client : clients) {
    EXPECT_FALSE(IsWritable(client.get(), 20));
  }
  std::vector<UniqueFd> ends;
  for (size_t i = 0; i < 3; ++i) {
    const int error = (*made)[i].Complete(NameOf(clients[i].get()));
    ASSERT_TRUE(error == 0 || error == EINPROGRESS) << error;
    EXPECT_TRUE(IsWritable(clients[i].get(), 10000));
    if (i + 1 < 3) {
      EXPECT_FALSE(IsWritable(clients[i + 1].get(), 20));
    }
    ends.push_back((*made)[i].Take());
    const char byte = static_cast<char>('a' + i);
    ASSERT_EQ(send(clients[i].get(), &byte, 1, MSG_NOSIGNAL), 1);
  }
  for (size_t i = 0; i < 3; ++i) {
    char got = 0;
    pollfd ready = {ends[i].get(), POLLIN, 0};
    ASSERT_EQ(poll(&ready, 1, 10000), 1);
    EXPECT_EQ(recv(ends[i].get(), &got, 1, 0), 1);
    EXPECT_EQ(got, static_cast<char>('a' + i));
  }
  // The last one has taken the port with it.
  EXPECT_TRUE(ports.empty());
  int error = 0;
  const UniqueFd late = Connecting(address, error);
  EXPECT_EQ(error, EINPROGRESS);
  EXPECT_TRUE(IsWritable(late.get(), 10000));
  EXPECT_EQ(TakeSocketError(late.get()), ECONNREFUSED);
}

TEST(HeldSocketTest, OneThatIsLeftKeepsThePortHeld) {
  OwnPorts ports;
  auto made = HeldSocket::CreateSome(2, AF_INET, ports);
  ASSERT_TRUE(made.has_value()) << made.error().ToString();
  const SockaddrCopy address = made->front().AddressFor(AF_INET);
  made->pop_back();
  int error = 0;
  const UniqueFd client = Connecting(address, error);
  EXPECT_EQ(error, EINPROGRESS);
  EXPECT_FALSE(IsWritable(client.get(), 20));
  EXPECT_FALSE(ports.empty());
  made->clear();
  EXPECT_TRUE(ports.empty());
}

TEST(HeldSpareTest, MakesMoreAtOnceTheMoreAreTaken) {
  OwnPorts ports;
  HeldSpare spare;
  const UniqueFd any(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const uint64_t netns = NetworkCookie(any.get());
  ASSERT_NE(netns, 0U);
  EXPECT_FALSE(spare.Take(netns, AF_INET, -1));
  std::vector<HeldSocket> taken;
  std::vector<size_t> batches;
  for (int round = 0; round < 5; ++round) {
    ASSERT_TRUE(spare.wanted());
    spare.Refill(ports);
    size_t batch = 0;
    do {
      auto one = spare.Take(netns, AF_INET, -1);
      ASSERT_TRUE(one.has_value());
      taken.push_back(std::move(*one));
      ++batch;
    } while (!spare.wanted());
    batches.push_back(batch);
  }
  EXPECT_EQ(batches, (std::vector<size_t>{1, 2, 4, 8, HeldSocket::kMaxAtOnce}));
  // Of another kind there is none, and they go for it.
  spare.Refill(ports);
  EXPECT_FALSE(spare.Take(netns, AF_INET6, -1));
  taken.clear();
  EXPECT_TRUE(ports.empty());
}

struct Ignore final : EventSink {
  void Push(Event&&) override {}
};

// Its socket turned out not to be one to connect: nothing is left of it, and the proxy is told.
TEST(HeldConnectionTest, WhatIsGivenUpBeforeItIsHeldEndsTheDial) {
  std::atomic<bool> ended{false};
  ScriptedProxy proxy_side([&](ProxySide& side) {
    EXPECT_EQ(side.Read(3), std::string("\x05\x01\x00", 3));
    side.AwaitEnd();
    ended = true;
  });
  Ignore events;
  const Log log("test", LogLevel::kError);
  policy::Proxy proxy;
  proxy.urls = {proxy_side.Url("socks5h")};
  Carrier carrier(events, log, nullptr);
  const auto container = std::make_shared<ContainerCarrier>(carrier, 0, ResolvConf());
  Worker* worker = carrier.NextWorker();
  ASSERT_NE(worker, nullptr);
  HeldRequest request{.container = container,
                      .policy = nullptr,
                      .slot = {},
                      .carry = policy::Carry::kProxy,
                      .dial = {},
                      .dns = {},
                      .make_far = {},
                      .asked = {}};
  request.dial.proxy = &proxy;
  request.dial.target.name = "example.com";
  const auto eventually = [](const auto& holds) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (!holds() && std::chrono::steady_clock::now() < end) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return holds();
  };
  {
    const HeldConnection::Starter starter(*worker, std::move(request));
    EXPECT_TRUE(eventually([&] { return proxy_side.connections() == 1; }));
    EXPECT_EQ(worker->load(), 1U);
    EXPECT_FALSE(ended);
  }
  EXPECT_TRUE(eventually([&] { return ended && worker->load() == 0; }));
  container->Close();
}

}  // namespace
}  // namespace oakum::agent
