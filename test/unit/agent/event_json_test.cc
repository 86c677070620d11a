#include "agent/events/event_json.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <nlohmann/json.hpp>
#include <string>

#include "agent/events/json_text.h"
#include "policy/policy_set.h"
#include "test/unit/agent/event_samples.h"

namespace oakum::agent {
namespace {

using nlohmann::json;
using testing::Denied;
using testing::Source;

std::string Line(const Event& event, const EventCounts& counts = {}) {
  EventSerializer serializer;
  std::string out;
  serializer.Append(event, counts, out);
  return out;
}

json Parsed(const Event& event, const EventCounts& counts = {}) {
  return json::parse(Line(event, counts));
}

std::string JsonString(std::string_view text) {
  std::string out;
  AppendJsonString(text, out);
  return out;
}

TEST(EventJson, DeniedConnectHasEveryField) {
  auto source = std::make_shared<EventSource>();
  source->container_id = "c1";
  source->facts.engine = "containerd";
  source->facts.name = "web";
  source->facts.image = "docker.io/library/nginx:1.25";
  source->facts.ns = "shop";
  source->facts.pod = "web-0";
  EXPECT_EQ(Parsed(Denied(source)), json::parse(R"({
    "@timestamp": "2026-11-24T20:34:44.123456789Z",
    "ecs": {"version": "8.11.0"},
    "event": {"kind": "alert", "category": ["network"], "type": ["connection", "denied"],
              "action": "connect", "outcome": "failure"},
    "network": {"transport": "tcp", "type": "ipv4", "direction": "egress"},
    "destination": {"address": "10.1.2.3", "ip": "10.1.2.3", "port": 80},
    "process": {"pid": 4242, "thread": {"id": 4243}, "executable": "/bin/busybox", "name": "wget",
                "command_line": "wget http://10.1.2.3/", "user": {"id": "1000"}},
    "container": {"id": "c1", "name": "web", "image": {"name": "docker.io/library/nginx:1.25"},
                  "runtime": "containerd"},
    "orchestrator": {"namespace": "shop", "resource": {"name": "web-0"}},
    "rule": {"name": "outgoing.default deny"},
    "error": {"code": "EACCES"},
    "oakum": {"verdict": "deny", "leak": true, "syscall": "connect"}
  })"));
}

TEST(EventJson, SaysForWhichName) {
  Event event = Denied(Source("c"));
  event.domain = "www.example.com";
  EXPECT_EQ(Parsed(event)["destination"],
            json::parse(R"({"address": "10.1.2.3", "ip": "10.1.2.3", "port": 80,
                            "domain": "www.example.com"})"));
}

TEST(EventJson, AProxysFailureIsNoCallThatFailed) {
  Event event = Denied(Source("c"));
  event.proxy_failure = true;
  event.verdict = EventVerdict::kRedirect;
  event.leak = false;
  event.errno_value = ECONNREFUSED;
  event.detail = "10.88.0.1:9050 (socks5h): refused the credentials";
  const json line = Parsed(event);
  EXPECT_EQ(line["event"], json::parse(R"({"kind": "event", "category": ["network"],
      "type": ["connection", "info"], "action": "proxy-failure", "outcome": "failure"})"));
  EXPECT_EQ(line["oakum"]["detail"], event.detail);
  EXPECT_EQ(line["error"]["code"], "ECONNREFUSED");
}

TEST(EventJson, LineIsOneLine) {
  const std::string line = Line(Denied(Source("c")));
  EXPECT_EQ(line.find('\n'), line.size() - 1);
}

TEST(EventJson, AuditSaysWhatEnforceWouldDoAndThatTheResultIsUnknown) {
  Event event = Denied(Source("c"));
  event.verdict = EventVerdict::kAudit;
  event.would = policy::Verdict::kDeny;
  event.errno_value = 0;
  const json line = Parsed(event);
  EXPECT_EQ(line["oakum"]["verdict"], "audit");
  EXPECT_EQ(line["oakum"]["would"], "deny");
  EXPECT_EQ(line["event"]["outcome"], "unknown");
  EXPECT_EQ(line["event"]["type"], json::parse(R"(["connection","allowed"])"));
  EXPECT_FALSE(line.contains("error"));
}

TEST(EventJson, ResultOfAnAllowedCallIsUnknownUnderAPolicyThatAudits) {
  const auto set = policy::PolicySet::Parse(
      R"({"version": 1, "policies": {"p": {"mode": "audit", "outgoing": {"default": "allow"}}},
          "containers": [{"match": {}, "policy": "p"}]})",
      "test");
  ASSERT_TRUE(set) << set.error().what;
  auto source = std::make_shared<EventSource>(*Source("c"));
  source->policy = std::make_shared<policy::Policy>(*(*set)->Find("p"));
  Event event = Denied(source);
  event.verdict = EventVerdict::kAllow;
  event.errno_value = 0;
  EXPECT_EQ(Parsed(event)["event"]["outcome"], "unknown");
  EXPECT_EQ(Parsed(event)["oakum"]["policy"], "p");
}

TEST(EventJson, AllowedCallThatIsUnderWayIsASuccessAndARefusedOneIsNot) {
  Event event = Denied(Source("c"));
  event.verdict = EventVerdict::kAllow;
  event.leak = false;
  event.errno_value = EINPROGRESS;
  EXPECT_EQ(Parsed(event)["event"]["outcome"], "success");
  EXPECT_EQ(Parsed(event)["event"]["kind"], "event");
  event.errno_value = ECONNREFUSED;
  EXPECT_EQ(Parsed(event)["event"]["outcome"], "failure");
  EXPECT_EQ(Parsed(event)["error"]["code"], "ECONNREFUSED");
}

TEST(EventJson, AcceptHasBothEnds) {
  Event event = Denied(Source("c"), 8080);
  event.operation = policy::Operation::kAccept;
  event.family = Event::Family::kIpv6;
  event.destination.ip = *policy::IpAddress::Parse("fd00::1");
  event.source = {.ip = *policy::IpAddress::Parse("2001:db8::2"), .port = 50'000};
  const json line = Parsed(event);
  EXPECT_EQ(line["destination"]["ip"], "fd00::1");
  EXPECT_EQ(line["source"],
            json::parse(R"({"address": "2001:db8::2", "ip": "2001:db8::2", "port": 50000})"));
  EXPECT_EQ(line["network"]["direction"], "ingress");
  EXPECT_EQ(line["network"]["type"], "ipv6");
}

TEST(EventJson, SocketOfTheStartHasBothEndsAndNoResult) {
  Event event = Denied(Source("c"));
  event.inherited = true;
  event.operation = policy::Operation::kSocket;
  event.transport = policy::Transport::kUdp;
  event.verdict = EventVerdict::kAudit;
  event.source = {.ip = policy::IpAddress::FromV4({10, 0, 0, 2}), .port = 5000};
  event.errno_value = 0;
  event.syscall = {};
  const json line = Parsed(event);
  EXPECT_EQ(line["event"]["action"], "inherited-socket");
  EXPECT_EQ(line["event"]["kind"], "alert");
  EXPECT_EQ(line["event"]["outcome"], "unknown");
  EXPECT_EQ(line["destination"]["ip"], "10.1.2.3");
  EXPECT_EQ(line["source"]["ip"], "10.0.0.2");
  EXPECT_EQ(line["source"]["port"], 5000);
  EXPECT_EQ(line["oakum"]["would"], "deny");
  EXPECT_FALSE(line["oakum"].contains("syscall"));
}

TEST(EventJson, UnixNameIsTheAddress) {
  Event event = Denied(Source("c"));
  event.family = Event::Family::kUnix;
  event.unix_name = "/run/docker.sock";
  const json line = Parsed(event);
  EXPECT_EQ(line["destination"], json::parse(R"({"address": "/run/docker.sock"})"));
  EXPECT_EQ(line["network"], json::parse(R"({"type": "unix", "direction": "egress"})"));
}

TEST(EventJson, SocketOfAnotherFamilyHasNoAddress) {
  Event event = Denied(Source("c"));
  event.operation = policy::Operation::kSocket;
  event.family = Event::Family::kOther;
  event.detail = "socket family 17";
  const json line = Parsed(event);
  EXPECT_FALSE(line.contains("network"));
  EXPECT_FALSE(line.contains("destination"));
  EXPECT_EQ(line["oakum"]["detail"], "socket family 17");
  EXPECT_EQ(line["event"]["type"], json::parse(R"(["info","denied"])"));
}

TEST(EventJson, MissingProcessAndContainerFactsAreLeftOut) {
  Event event = Denied(std::make_shared<EventSource>());
  event.process = nullptr;
  event.thread_id = 0;
  event.rule = {};
  const json line = Parsed(event);
  for (const char* key : {"process", "orchestrator", "rule"}) {
    EXPECT_FALSE(line.contains(key)) << key;
  }
  EXPECT_EQ(line["container"], json::object());
}

TEST(EventJson, CountsSayWhenTheyBegan) {
  const Event event = Denied(Source("c"));
  const json line =
      Parsed(event, {.count = 7, .first_ns = event.time_ns - 1'000'000'000, .suppressed = 0});
  EXPECT_EQ(line["oakum"]["count"], 7);
  EXPECT_EQ(line["event"]["start"], "2026-11-24T20:34:43.123456789Z");
  EXPECT_FALSE(line["oakum"].contains("suppressed"));
  const json other = Parsed(event, {.count = 1, .first_ns = 0, .suppressed = 3});
  EXPECT_EQ(other["oakum"]["suppressed"], 3);
  EXPECT_FALSE(other["oakum"].contains("count"));
}

TEST(EventJson, SecondsAreFormattedAnewWhenTheyChange) {
  EventSerializer serializer;
  Event event = Denied(Source("c"));
  std::string out;
  serializer.Append(event, {}, out);
  event.time_ns += 999'999'999;
  out.clear();
  serializer.Append(event, {}, out);
  EXPECT_EQ(json::parse(out)["@timestamp"], "2026-11-24T20:34:45.123456788Z");
  event.time_ns = 5;
  out.clear();
  serializer.Append(event, {}, out);
  EXPECT_EQ(json::parse(out)["@timestamp"], "1970-01-01T00:00:00.000000005Z");
}

TEST(EventJson, StringsAreEscaped) {
  EXPECT_EQ(JsonString(""), R"("")");
  EXPECT_EQ(JsonString("a\"b\\c"), R"("a\"b\\c")");
  EXPECT_EQ(JsonString("a\nb\r\t\x1b[2J\x7f"), R"("a\u000ab\u000d\u0009\u001b[2J\u007f")");
  EXPECT_EQ(JsonString(std::string_view("a\0b", 3)), R"("a\u0000b")");
  EXPECT_EQ(JsonString("gr\u00fc\u00df \U0001f6a2"), "\"gr\u00fc\u00df \U0001f6a2\"");
  EXPECT_EQ(JsonString("\u0085\u009b\u2028\u2029"), R"("\u0085\u009b\u2028\u2029")");
}

TEST(EventJson, BytesThatAreNotUtf8BecomeReplacementCharacters) {
  EXPECT_EQ(JsonString("a\xff"
                       "b"),
            "\"a\ufffdb\"");
  EXPECT_EQ(JsonString("\xc0\xaf"), "\"\ufffd\ufffd\"");            // overlong
  EXPECT_EQ(JsonString("\xed\xa0\x80"), "\"\ufffd\ufffd\ufffd\"");  // surrogate
  EXPECT_EQ(JsonString("\xe2\x82"), "\"\ufffd\ufffd\"");            // cut off
}

TEST(EventJson, ContainerTextCannotForgeALine) {
  auto process = std::make_shared<ProcessInfo>();
  process->command_line = "x\"}\n{\"oakum\":{\"verdict\":\"allow\"}}\n";
  process->executable = std::string("/bin/\xff\n\0x", 9);
  Event event = Denied(Source("c\nd"));
  event.process = process;
  event.unix_name = "\n";
  const std::string line = Line(event);
  EXPECT_EQ(line.find('\n'), line.size() - 1);
  EXPECT_EQ(json::parse(line)["process"]["command_line"], process->command_line);
}

TEST(EventJson, EveryByteAloneMakesValidJson) {
  for (int byte = 0; byte < 256; ++byte) {
    const std::string text(1, static_cast<char>(byte));
    EXPECT_TRUE(json::accept(JsonString(text))) << byte;
    EXPECT_TRUE(json::accept(JsonString(fmt::format("x{}y", text)))) << byte;
  }
}

}  // namespace
}  // namespace oakum::agent
