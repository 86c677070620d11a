// Programs that try to escape the mechanism of a guard, one for each first argument.
// escapes_test.py runs them in containers without and with Oakum.
#include <string_view>

#include "support.h"

int main(int argc, char** argv) {
  using namespace oakum::escapes;
  const struct {
    std::string_view name;
    int (*run)(char** words);
    int words;
  } ways[] = {
      {"filters", Filters, 2},
      {"tracer", Tracer, 1},
      {"suspend", SuspendSeccomp, 0},
      {"namespaces", Namespaces, 2},
      {"tasks", Tasks, 2},
      {"setuid", Setuid, 2},
      {"flood", Flood, 3},
      {"victim", Victim, 2},
      {"attack", Attack, 5},
      {"enter", Enter, 2},
      {"agent", Agent, 2},
      {"one", [](char** words) { return Connect(words[0]); }, 1},
  };
  for (const auto& way : ways) {
    if (argc == way.words + 2 && way.name == argv[1]) {
      return way.run(argv + 2);
    }
  }
  fprintf(stderr, "escapes: unknown way or wrong number of arguments\n");
  return 99;
}
