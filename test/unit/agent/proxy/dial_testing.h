// Dials that a test waits for.
#ifndef OAKUM_TEST_UNIT_AGENT_PROXY_DIAL_TESTING_H_
#define OAKUM_TEST_UNIT_AGENT_PROXY_DIAL_TESTING_H_

#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "agent/proxy/dial.h"
#include "agent/proxy/tls_process.h"
#include "agent/proxy/tls_stream.h"
#include "scripted_proxy.h"

namespace oakum::agent {

class DialTest : public testing::Test {
 protected:
  DialTest() {
    auto loop = EventLoop::Create();
    EXPECT_TRUE(loop.has_value());
    loop_ = std::move(*loop);
    proxy_.name = "p";
    target_.name = "example.com";
    target_.address.port = 443;
  }

  // The result of one dial, waited for.
  DialResult Dialled(ProxyCommand command = ProxyCommand::kConnect,
                     std::optional<Credentials> credentials = std::nullopt) {
    DialRequest request;
    request.proxy = &proxy_;
    request.command = command;
    request.target = target_;
    request.credentials = std::move(credentials);
    request.ready = use_ready_;
    request.tls_process = use_process_;
    std::optional<DialResult> result;
    const auto dial = Dial::Start(*loop_, upstreams_, std::move(request),
                                  [&](DialResult got) { result = std::move(got); });
    EXPECT_FALSE(result) << "called back from inside Start";
    const auto deadline = EventLoop::Clock::now() + std::chrono::seconds(60);
    while (!result && EventLoop::Clock::now() < deadline) {
      EXPECT_TRUE(loop_->RunOnce(std::chrono::seconds(1)));
    }
    EXPECT_TRUE(result) << "no end";
    DialResult out = result ? std::move(*result) : DialResult{};
    if (out.failure) {
      texts_ += out.failure->text + "\n";
    }
    return out;
  }

  std::unique_ptr<EventLoop> loop_;
  // Time stands still for it: what has failed lately stays so.
  Upstreams upstreams_{[] { return Upstreams::Clock::time_point(std::chrono::hours(1)); }};
  policy::Proxy proxy_;
  ProxyTarget target_;
  ReadyProxies* use_ready_ = nullptr;
  TlsProcess* use_process_ = nullptr;
  std::string texts_;  // of all failures
};

}  // namespace oakum::agent

#endif  // OAKUM_TEST_UNIT_AGENT_PROXY_DIAL_TESTING_H_
