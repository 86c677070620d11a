#ifndef OAKUM_TEST_INTEGRATION_PROGRAMS_HOSTILE_BAD_INPUT_H_
#define OAKUM_TEST_INTEGRATION_PROGRAMS_HOSTILE_BAD_INPUT_H_

// Makes `count` calls with arguments that no honest program passes, the same for the same seed, and
// prints a line for each: what it was, its result, its errno value. Loopback only.
int CallBadly(unsigned seed, int count);

#endif  // OAKUM_TEST_INTEGRATION_PROGRAMS_HOSTILE_BAD_INPUT_H_
