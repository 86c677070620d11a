#include "agent/control.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>

#include "agent/events/event_json.h"
#include "base/error.h"
#include "oci/json.h"

namespace oakum::agent {

namespace {

using oci::Json;

// Text of a container may hold any bytes: what is not UTF-8 becomes U+FFFD.
std::string Line(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string Cut(const std::string& text) {
  return text.size() <= kMaxControlText ? text : text.substr(0, kMaxControlText) + "...";
}

std::string Time(int64_t time_ns) {
  std::string text;
  AppendTimestamp(time_ns, text);
  return text;
}

Json SessionJson(const SessionInfo& session) {
  Json json;
  json["session"] = session.session;
  json["container_id"] = Cut(session.container_id);
  json["name"] = Cut(session.name);
  json["image"] = Cut(session.image);
  json["policy"] = Cut(session.policy);
  json["mode"] = ToString(session.mode);
  json["init_pid"] = session.init_pid;
  json["attached"] = Time(session.attached_ns);
  json["calls"] = session.calls;
  json["allowed"] = session.allowed;
  json["denied"] = session.denied;
  json["leaks"] = session.leaks;
  json["redirected"] = session.redirected;
  json["proxy_failures"] = session.proxy_failures;
  json["waiting"] = session.waiting;
  json["stale_filter"] = session.filter_known ? Json(session.filter_gaps.unseen) : Json();
  json["refused_by_filter"] = session.filter_known ? Json(session.filter_gaps.refused) : Json();
  return json;
}

Json StatusJson(const AgentStatus& status) {
  Json json;
  json["ok"] = true;
  json["version"] = status.version;
  json["pid"] = status.pid;
  json["started"] = Time(status.started_ns);
  json["socket"] = status.socket_path;
  json["events"] = status.events_path;
  Json& policy = json["policy"];
  policy["path"] = status.policy_path;
  policy["generation"] = status.policy_generation;
  policy["loaded"] = Time(status.policy_loaded_ns);
  policy["names"] = status.policies;
  policy["error"] = status.policy_error.empty() ? Json() : Json(status.policy_error);
  json["sessions"] = status.sessions.size();
  Json& counters = json["counters"];
  counters["sessions"] = status.totals.sessions;
  counters["calls"] = status.totals.calls;
  counters["allowed"] = status.totals.allowed;
  counters["denied"] = status.totals.denied;
  counters["leaks"] = status.totals.leaks;
  counters["redirected"] = status.totals.redirected;
  counters["proxy_failures"] = status.totals.proxy_failures;
  counters["event_lines"] = status.events.lines;
  counters["events_folded"] = status.events.folded;
  counters["events_suppressed"] = status.events.suppressed;
  counters["event_write_errors"] = status.events.write_errors;
  counters["connections_refused"] = status.listener.refused;
  counters["connections_evicted"] = status.listener.evicted;
  counters["connections_failed"] = status.listener.failed;
  return json;
}

Json ListJson(const AgentStatus& status) {
  Json answer{{"ok", true}, {"sessions", Json::array()}};
  for (const SessionInfo& session : status.sessions) {
    answer["sessions"].push_back(SessionJson(session));
  }
  return answer;
}

Json Reload(const ControlActions& actions) {
  if (const auto reloaded = actions.reload(); !reloaded) {
    return {{"ok", false}, {"error", reloaded.error().what}};
  }
  const AgentStatus status = actions.status();
  return {{"ok", true},
          {"policy",
           {{"path", status.policy_path},
            {"generation", status.policy_generation},
            {"names", status.policies}}}};
}

Json Reopen(const ControlActions& actions) {
  actions.reopen();
  return {{"ok", true}};
}

struct Op {
  std::string_view name;
  ControlRights needs;
  Json (*answer)(const ControlActions& actions);
};

constexpr std::array kOps = {
    Op{"status", ControlRights::kRead,
       [](const ControlActions& actions) { return StatusJson(actions.status()); }},
    Op{"ps", ControlRights::kRead,
       [](const ControlActions& actions) { return ListJson(actions.status()); }},
    Op{"reload", ControlRights::kAll, Reload}, Op{"reopen", ControlRights::kAll, Reopen}};

}  // namespace

std::string DefaultControlPath(const std::string& socket_path) {
  return (std::filesystem::path(socket_path).parent_path() / "control.sock").string();
}

std::string ControlError(std::string_view what) {
  return Line(Json{{"ok", false}, {"error", what}});
}

std::string AnswerControl(std::string_view request, ControlRights rights,
                          const ControlActions& actions) {
  const auto json = oci::ParseJson(request, "request");
  if (!json) {
    return ControlError(json.error().what);
  }
  if (!json->is_object() || !json->contains("op") || !json->at("op").is_string()) {
    return ControlError(
        R"(a request is an object with "op": "status", "ps", "reload" or "reopen")");
  }
  const auto& op = json->at("op").get_ref<const std::string&>();
  const auto* const known = std::ranges::find(kOps, op, &Op::name);
  if (known != kOps.end() && known->needs == ControlRights::kAll && rights != ControlRights::kAll) {
    return ControlError(
        fmt::format(R"("{}" changes something: it is for root and the agent's own user)", op));
  }
  if (known != kOps.end()) {
    return Line(known->answer(actions));
  }
  return ControlError(fmt::format(
      R"(unknown op "{}"; known are "status", "ps", "reload" and "reopen")", Escape(op, 64)));
}

}  // namespace oakum::agent
