// What a client of the control socket may say. The first byte: whether it is a reader, and whether
// the policy is refused.
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "agent/control.h"

namespace {

using oakum::agent::AgentStatus;
using oakum::agent::AnswerControl;
using oakum::agent::ControlRights;

void Demand(bool promise) {
  if (!promise) {
    __builtin_trap();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) {
    return 0;
  }
  const bool reads_only = (data[0] & 1) != 0;
  const bool refused = (data[0] & 2) != 0;
  const std::string_view text(reinterpret_cast<const char*>(data + 1), size - 1);
  int changes = 0;
  AgentStatus status;
  status.policies = {std::string(text.substr(0, 64))};
  status.sessions.resize(1);
  // A container chooses its names.
  status.sessions[0].name = std::string(text);
  status.sessions[0].container_id = std::string(text);
  const std::string answer = AnswerControl(
      text, reads_only ? ControlRights::kRead : ControlRights::kAll,
      {.status = [&] { return status; },
       .reload = [&]() -> oakum::Expected<void> {
         ++changes;
         return refused ? oakum::MakeError(EINVAL, std::string(text)) : oakum::Expected<void>();
       },
       .reopen = [&] { ++changes; }});
  Demand(!reads_only || changes == 0);
  Demand(changes <= 1);
  Demand(answer.find('\n') == answer.size() - 1);
  const auto json = nlohmann::json::parse(answer, nullptr, false);
  Demand(json.is_object() && json.contains("ok") && json["ok"].is_boolean());
  Demand(json["ok"] == true || json["error"].is_string());
  Demand(changes == 0 || !refused || json["ok"] == false || text.find("reopen") != text.npos);
  return 0;
}
