// How a guard shares the processor with those it answers.
#ifndef OAKUM_AGENT_SERVER_SHORT_TURNS_H_
#define OAKUM_AGENT_SERVER_SHORT_TURNS_H_

namespace oakum::agent {

// Asks for short turns on the processor, for this thread and those that it starts: one that is
// woken by a call comes before whoever is in the middle of a longer turn, and none that works for
// one container keeps another one's waiting for long. Its share stays as it is. Nothing where a
// time slice cannot be asked for (sched_setattr(2), before Linux 6.12), or somebody has chosen
// another way to be scheduled.
void TakeShortTurns();

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_SERVER_SHORT_TURNS_H_
