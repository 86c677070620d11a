// An agent's status for tests.
#ifndef OAKUM_TEST_UNIT_AGENT_AGENT_STATUS_SAMPLES_H_
#define OAKUM_TEST_UNIT_AGENT_AGENT_STATUS_SAMPLES_H_

#include "agent/agent_status.h"

namespace oakum::agent::testing {

inline AgentStatus Status() {
  AgentStatus status;
  status.version = "0.1.0";
  status.pid = 77;
  status.started_ns = 1'795'552'484'000'000'000;
  status.socket_path = "/run/oakum/agent.sock";
  status.events_path = "/var/log/oakum/events.jsonl";
  status.policy_path = "/etc/oakum/policy.d";
  status.policies = {"a", "b"};
  status.reloads = 3;
  status.failed_reloads = 1;
  status.totals = {.sessions = 5,
                   .calls = 100,
                   .allowed = 90,
                   .denied = 10,
                   .leaks = 9,
                   .redirected = 6,
                   .proxy_failures = 2};
  SessionInfo session;
  session.session = 4;
  session.container_id = "c1";
  session.name = "we\xff\nb";
  session.image = "localhost/box";
  session.policy = "a";
  session.mode = policy::Mode::kKill;
  session.init_pid = 1'234;
  session.attached_ns = 1'795'552'485'000'000'000;
  session.calls = 12;
  session.leaks = 2;
  session.waiting = 1;
  session.filter_known = true;
  session.filter_gaps.unseen = {"bind", "listen"};
  status.sessions = {session};
  status.events.pushed = {90, 0, 10, 0, 0};
  status.events.lines = 17;
  return status;
}

}  // namespace oakum::agent::testing

#endif  // OAKUM_TEST_UNIT_AGENT_AGENT_STATUS_SAMPLES_H_
