# How tests are declared. A sanitizer build runs what is labelled "unit" or "agent" under the names
# "asan.*" and "tsan.*", so that one ctest can run several builds (scripts/test).

set(OAKUM_TEST_PREFIX "")
set(OAKUM_TEST_LAUNCHER "")
set(OAKUM_TEST_TIMEOUT_FACTOR 1)
if(OAKUM_SANITIZE)
  set(OAKUM_TEST_TIMEOUT_FACTOR 4)
  if(OAKUM_SANITIZE MATCHES thread)
    set(OAKUM_TEST_PREFIX "tsan.")
  else()
    set(OAKUM_TEST_PREFIX "asan.")
  endif()
  # The shadow memory of g++ 12's sanitizers collides with mappings where vm.mmap_rnd_bits is above
  # 28 (Ubuntu 24.04 has 32). setarch(8) needs personality(2), which some containers refuse.
  execute_process(COMMAND setarch --addr-no-randomize true RESULT_VARIABLE result ERROR_QUIET)
  if(result EQUAL 0)
    set(OAKUM_TEST_LAUNCHER setarch --addr-no-randomize)
  endif()
endif()

# die_after_fork: session tests guard a child that has threads of its own.
set(OAKUM_TEST_ENVIRONMENT
  "OAKUM_SOURCE_DIR=${PROJECT_SOURCE_DIR}"
  "OAKUM_BIN_DIR=${CMAKE_BINARY_DIR}/bin"
  "OAKUM_TEST_BIN_DIR=${CMAKE_BINARY_DIR}/test"
  "OAKUM_SANITIZE=${OAKUM_SANITIZE}"
  "ASAN_OPTIONS=detect_leaks=1:abort_on_error=0"
  "UBSAN_OPTIONS=print_stacktrace=1"
  # Guarded children are forked by a program that has threads, and have threads of their own.
  "TSAN_OPTIONS=second_deadlock_stack=1:die_after_fork=0:suppressions=${PROJECT_SOURCE_DIR}/test/tsan.supp:print_suppressions=0")

# oakum_add_test(NAME LABELS TIMEOUT COMMAND...): one ctest entry, left out of a sanitizer build
# when no label of it is "unit" or "agent", and of the thread sanitizer's when it is "one_thread".
function(oakum_add_test name labels timeout)
  if(OAKUM_SANITIZE AND NOT "unit" IN_LIST labels AND NOT "agent" IN_LIST labels)
    return()
  endif()
  if(OAKUM_SANITIZE MATCHES thread AND "one_thread" IN_LIST labels)
    return()
  endif()
  set(full_name ${OAKUM_TEST_PREFIX}${name})
  math(EXPR full_timeout "${timeout} * ${OAKUM_TEST_TIMEOUT_FACTOR}")
  add_test(NAME ${full_name} COMMAND ${OAKUM_TEST_LAUNCHER} ${ARGN})
  set_tests_properties(${full_name} PROPERTIES LABELS "${labels}" TIMEOUT ${full_timeout}
    SKIP_RETURN_CODE 77 ENVIRONMENT "${OAKUM_TEST_ENVIRONMENT}")
endfunction()

# oakum_test(NAME SOURCES... LIBS ... [LABELS ...] [TIMEOUT s]): a GoogleTest program, one ctest
# entry, label "unit" unless others are given.
function(oakum_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT" "SOURCES;LIBS;LABELS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/test)
  oakum_compile_soon(${name} TOO_IN_RELEASE)
  target_link_libraries(${name} PRIVATE oakum_options ${ARG_LIBS} GTest::gtest GTest::gmock GTest::gtest_main)
  if(NOT ARG_LABELS)
    set(ARG_LABELS unit)
  endif()
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  oakum_add_test(${name} "${ARG_LABELS}" ${ARG_TIMEOUT} $<TARGET_FILE:${name}>)
endfunction()

# oakum_integration(NAME SCRIPT [BESIDE] [ARGUMENTS ...] [LABELS ...] [TIMEOUT s]): a python3 test against
# real runtimes. ARGUMENTS name the cases of the script to run, all of them when there are none.
# Exit status 77 means "cannot run here"; ctest shows it as skipped. Label "agent" also runs it in
# the sanitizer builds, "quick" in scripts/test --quick. They run one at a time, for each needs the
# machine's cores for its timing, and some start daemons; BESIDE: it runs beside the unit tests,
# since nothing in it is timed.
function(oakum_integration name script)
  cmake_path(ABSOLUTE_PATH script BASE_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR})
  cmake_parse_arguments(ARG "BESIDE" "TIMEOUT" "LABELS;ARGUMENTS" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 300)
  endif()
  oakum_add_test(${name} "integration;${ARG_LABELS}" ${ARG_TIMEOUT}
    /usr/bin/python3 ${script} ${ARG_ARGUMENTS})
  if(TEST ${OAKUM_TEST_PREFIX}${name} AND NOT ARG_BESIDE)
    set_tests_properties(${OAKUM_TEST_PREFIX}${name} PROPERTIES RUN_SERIAL TRUE)
  endif()
endfunction()

# oakum_fuzz(NAME [BRIEF] SOURCES... LIBS ...): a libFuzzer target; ctest runs it for
# OAKUM_FUZZ_SECONDS, or a third of that where there is little to find (BRIEF), over its corpus in
# test/fuzz/corpus/NAME. What it finds goes to build/fuzz/corpus/NAME.
set(OAKUM_FUZZ_SECONDS 15 CACHE STRING "How long ctest runs each fuzz target")
set(OAKUM_FUZZ_SEED 1 CACHE STRING "Seed of the fuzz targets in ctest, the same each time; 0: random")
function(oakum_fuzz name)
  cmake_parse_arguments(ARG "BRIEF" "" "SOURCES;LIBS" ${ARGN})
  set(seconds ${OAKUM_FUZZ_SECONDS})
  if(ARG_BRIEF)
    math(EXPR seconds "(${seconds} + 2) / 3")
  endif()
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE oakum_options ${ARG_LIBS})
  target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/fuzz)
  add_dependencies(fuzzers ${name})
  set(corpus ${CMAKE_BINARY_DIR}/corpus/${name})
  file(MAKE_DIRECTORY ${corpus})
  if(EXISTS ${PROJECT_SOURCE_DIR}/test/fuzz/corpus/${name})
    list(APPEND corpus ${PROJECT_SOURCE_DIR}/test/fuzz/corpus/${name})
  endif()
  add_test(NAME fuzz.${name} COMMAND ${name} -max_total_time=${seconds}
    -seed=${OAKUM_FUZZ_SEED}
    -rss_limit_mb=2048 -timeout=5 -print_final_stats=1 -verbosity=0 ${corpus})
  set_tests_properties(fuzz.${name} PROPERTIES LABELS fuzz TIMEOUT 120)
endfunction()
