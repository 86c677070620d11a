# How our libraries and programs are compiled; nothing third-party is built here.

if(OAKUM_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  find_program(OAKUM_CCACHE_PROGRAM ccache)
  if(OAKUM_CCACHE_PROGRAM)
    # Paths below the source folder count as relative, so that another clone finds the same objects.
    set(launcher ${CMAKE_COMMAND} -E env CCACHE_BASEDIR=${PROJECT_SOURCE_DIR} CCACHE_NOHASHDIR=true
      ${OAKUM_CCACHE_PROGRAM})
    set(CMAKE_C_COMPILER_LAUNCHER ${launcher})
    set(CMAKE_CXX_COMPILER_LAUNCHER ${launcher})
  endif()
endif()

# The warnings and hardening every target of ours gets.
add_library(oakum_options INTERFACE)
target_include_directories(oakum_options INTERFACE ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR}/generated)
target_compile_options(oakum_options INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion -Wnon-virtual-dtor
  -Wold-style-cast -Wcast-qual -Wnull-dereference -Wformat=2 -Wimplicit-fallthrough
  # Errors with the compilers that we test with; a newer one's new warnings keep nobody from building.
  $<$<OR:$<CXX_COMPILER_ID:Clang>,$<VERSION_LESS:$<CXX_COMPILER_VERSION>,13>>:-Werror>
  # nlohmann_json and libfmt of Debian 12 inline far enough for g++ 12 to warn inside them.
  $<$<CXX_COMPILER_ID:GNU>:-Wno-null-dereference>
  # g++ 12 sees overlaps in std::string's own code (GCC bug 105651).
  $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict>
  # libstdc++ 12 calls its own deprecated std::get_temporary_buffer in std::stable_sort.
  $<$<CXX_COMPILER_ID:Clang>:-Wno-deprecated-declarations>)
target_compile_options(oakum_options INTERFACE
  $<$<CONFIG:Release,RelWithDebInfo>:-fstack-protector-strong -fstack-clash-protection -fcf-protection -D_FORTIFY_SOURCE=2>)
if(OAKUM_SANITIZE AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # g++ warns of uninitialised values inside libstdc++ when sanitizers instrument it (gcc(1)).
  target_compile_options(oakum_options INTERFACE -Wno-maybe-uninitialized)
endif()
target_link_options(oakum_options INTERFACE -Wl,-z,relro,-z,now,-z,noexecstack)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)

# -O1 and line tables only: a sanitizer build compiles in half the time of -O2 -g, and its reports
# still name lines.
if(OAKUM_SANITIZE)
  set(oakum_sanitizer_options -O1 -g1 -fno-omit-frame-pointer -fsanitize=${OAKUM_SANITIZE})
  if(OAKUM_SANITIZE MATCHES undefined)
    # Not vptr: to look at an object, its check makes a pipe(2), and where a test has left the agent
    # without descriptors it takes every good object for a bad one.
    list(APPEND oakum_sanitizer_options -fno-sanitize-recover=all -fno-sanitize=vptr)
  endif()
  target_compile_options(oakum_options INTERFACE ${oakum_sanitizer_options})
  target_link_options(oakum_options INTERFACE ${oakum_sanitizer_options})
endif()

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

# oakum_compile_soon(TARGET [TOO_IN_RELEASE]): with fewer optimizations than the rest, in a sanitizer
# build or also in the one that is shipped: for sources in which nothing is timed and templates keep the
# optimizers busy for longer than what they do takes (CLI11, nlohmann_json, GoogleTest).
function(oakum_compile_soon target)
  cmake_parse_arguments(ARG "TOO_IN_RELEASE" "" "" ${ARGN})
  get_target_property(sources ${target} SOURCES)
  # As options of the sources, since these come last.
  if(OAKUM_SANITIZE)
    set_property(SOURCE ${sources} APPEND PROPERTY COMPILE_OPTIONS -O0)
  elseif(ARG_TOO_IN_RELEASE)
    set_property(SOURCE ${sources} APPEND PROPERTY COMPILE_OPTIONS $<$<NOT:$<CONFIG:Debug>>:-O1>)
  endif()
endfunction()
