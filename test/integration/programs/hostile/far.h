#ifndef OAKUM_TEST_INTEGRATION_PROGRAMS_HOSTILE_FAR_H_
#define OAKUM_TEST_INTEGRATION_PROGRAMS_HOSTILE_FAR_H_

// Runs one step after the other, "NAME ADDRESS PORT [MORE]" each, and prints a line with its number
// and errno value. Each step sends one datagram to PORT, whatever becomes of it.
int SendFar(int count, char** steps);

#endif  // OAKUM_TEST_INTEGRATION_PROGRAMS_HOSTILE_FAR_H_
