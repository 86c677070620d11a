# The warnings and hardening every target of ours gets; nothing third-party is built here.
add_library(oakum_options INTERFACE)
target_include_directories(oakum_options INTERFACE ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR}/generated)
target_compile_options(oakum_options INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion -Wnon-virtual-dtor
  -Wold-style-cast -Wcast-qual -Wnull-dereference -Wformat=2 -Wimplicit-fallthrough -Werror
  $<$<CXX_COMPILER_ID:GNU>:-Wno-error=null-dereference>
  # nlohmann_json and libfmt of Debian 12 inline far enough for g++ 12 to warn inside them.
  $<$<CXX_COMPILER_ID:GNU>:-Wno-null-dereference>)
target_compile_options(oakum_options INTERFACE
  $<$<CONFIG:Release,RelWithDebInfo>:-fstack-protector-strong -fstack-clash-protection -fcf-protection -D_FORTIFY_SOURCE=2>)
target_link_options(oakum_options INTERFACE -Wl,-z,relro,-z,now,-z,noexecstack)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)

# oakum_library(NAME SOURCES... LIBS ...): a static library with our options.
function(oakum_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LIBS" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC oakum_options ${ARG_LIBS})
endfunction()

# oakum_program(NAME SOURCES... LIBS ...): an executable in bin/ with our options.
function(oakum_program name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LIBS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE oakum_options ${ARG_LIBS})
endfunction()

# oakum_test(NAME SOURCES... LIBS ... [LABELS ...] [TIMEOUT s]): a GoogleTest program, one ctest entry.
function(oakum_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT" "SOURCES;LIBS;LABELS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/test)
  target_link_libraries(${name} PRIVATE oakum_options ${ARG_LIBS} GTest::gtest GTest::gmock GTest::gtest_main)
  add_test(NAME ${name} COMMAND ${name})
  if(NOT ARG_LABELS)
    set(ARG_LABELS unit)
  endif()
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  set_tests_properties(${name} PROPERTIES LABELS "${ARG_LABELS}" TIMEOUT ${ARG_TIMEOUT}
    ENVIRONMENT "OAKUM_SOURCE_DIR=${PROJECT_SOURCE_DIR};OAKUM_BIN_DIR=${CMAKE_BINARY_DIR}/bin")
endfunction()

# oakum_integration(NAME SCRIPT [LABELS ...] [TIMEOUT s]): a python3 test against real runtimes.
# Exit status 77 means "cannot run here"; ctest shows it as skipped.
function(oakum_integration name script)
  cmake_parse_arguments(ARG "" "TIMEOUT" "LABELS" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 300)
  endif()
  add_test(NAME ${name} COMMAND /usr/bin/python3 ${script})
  set_tests_properties(${name} PROPERTIES LABELS "integration;${ARG_LABELS}" TIMEOUT ${ARG_TIMEOUT}
    SKIP_RETURN_CODE 77 RUN_SERIAL TRUE
    ENVIRONMENT "OAKUM_SOURCE_DIR=${PROJECT_SOURCE_DIR};OAKUM_BIN_DIR=${CMAKE_BINARY_DIR}/bin;OAKUM_TEST_BIN_DIR=${CMAKE_BINARY_DIR}/test")
endfunction()

# oakum_fuzz(NAME SOURCES... LIBS ... [DICT file]): a libFuzzer target; ctest runs it for a bounded
# time over its corpus in test/fuzz/corpus/NAME.
function(oakum_fuzz name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LIBS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE oakum_options ${ARG_LIBS})
  target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/fuzz)
  file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/corpus/${name})
  add_test(NAME ${name} COMMAND ${name} -max_total_time=20 -rss_limit_mb=2048 -timeout=5
    ${CMAKE_BINARY_DIR}/corpus/${name} ${PROJECT_SOURCE_DIR}/test/fuzz/corpus/${name})
  set_tests_properties(${name} PROPERTIES LABELS fuzz TIMEOUT 120)
endfunction()
