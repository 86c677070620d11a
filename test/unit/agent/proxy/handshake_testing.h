// Handshakes driven without any socket.
#ifndef OAKUM_TEST_UNIT_AGENT_PROXY_HANDSHAKE_TESTING_H_
#define OAKUM_TEST_UNIT_AGENT_PROXY_HANDSHAKE_TESTING_H_

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "agent/proxy/handshake.h"

namespace oakum::agent {

// Feeds `answers`, one for each message that the client sends, in pieces of at most `piece` bytes.
// What was sent is in `sent`, one message each; what was not taken of the last answer in `left`.
struct Conversation {
  std::vector<std::string> sent;
  std::string left;

  void Run(Handshake& handshake, const std::vector<std::string>& answers, size_t piece) {
    for (const std::string& answer : answers) {
      if (handshake.over()) {
        return;
      }
      sent.emplace_back(handshake.to_send());
      handshake.Sent(handshake.to_send().size());
      left = answer;
      while (!left.empty() && !handshake.over() && handshake.to_send().empty()) {
        const size_t size = std::min({piece, left.size(), handshake.wants()});
        const size_t taken = handshake.Take(std::string_view(left).substr(0, size));
        left.erase(0, taken);
        if (taken == 0) {
          return;
        }
      }
    }
  }
};

}  // namespace oakum::agent

#endif  // OAKUM_TEST_UNIT_AGENT_PROXY_HANDSHAKE_TESTING_H_
