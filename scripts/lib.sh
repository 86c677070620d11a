# shellcheck shell=bash
# Helpers shared by the scripts beside this file. Source it; it changes nothing by itself.

OAKUM_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '== %s\n' "$*"; }
die() {
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
  exit 1
}

# Packages of the sections named, one "a | b" a line.
list_packages() {
  local wanted=" $* " section='' line
  while read -r line; do
    case $line in
      '' | '#'*) ;;
      '['*']') section=${line#\[} section=${section%\]} ;;
      *) [[ $wanted == *" $section "* ]] && printf '%s\n' "$line" ;;
    esac
  done <"$OAKUM_ROOT/scripts/packages.txt"
  return 0
}

package_installed() {
  [[ $(dpkg-query -W -f='${db:Status-Abbrev}' "$1" 2>/dev/null) == i* ]]
}

package_known() {
  [[ -n $(apt-cache --quiet=2 show --no-all-versions "$1" 2>/dev/null) ]]
}

# The packages of the sections named that no alternative of is installed.
missing_packages() {
  local line name found
  list_packages "$@" | while read -r line; do
    found=
    for name in ${line//|/ }; do
      package_installed "$name" && found=1
    done
    [[ $found ]] || printf '%s\n' "$line"
  done
}

# The first alternative of each line that the distribution has; the first one when none is known, so
# that apt says which name it does not know.
choose_alternatives() {
  local line name chosen
  while read -r line; do
    chosen=${line%% *}
    for name in ${line//|/ }; do
      if package_known "$name"; then
        chosen=$name
        break
      fi
    done
    printf '%s\n' "$chosen"
  done
}

# Daemons that come with docker.io or containerd must not start: the tests start their own, with
# their own directories. Debian's way to say so is policy-rc.d (invoke-rc.d(8)); one that is there
# already is put back afterwards.
POLICY_RC_D=/usr/sbin/policy-rc.d
forbid_services() {
  [[ -e $POLICY_RC_D ]] && mv "$POLICY_RC_D" "$POLICY_RC_D.before-oakum"
  printf '#!/bin/sh\nexit 101\n' >"$POLICY_RC_D"
  chmod 755 "$POLICY_RC_D"
}
restore_services() {
  rm -f "$POLICY_RC_D"
  [[ -e $POLICY_RC_D.before-oakum ]] && mv "$POLICY_RC_D.before-oakum" "$POLICY_RC_D"
  return 0
}

# Nor at the machine's next start: what a package enables (sshd, nginx, postgres) is a developer's
# to want. What was enabled before stays so, and a service that is disabled here is named.
enabled_units() {
  command -v systemctl >/dev/null || return 0
  systemctl --root=/ list-unit-files --state=enabled --no-legend 2>/dev/null | cut -d' ' -f1 | sort
}
disable_new_units() {
  local units
  mapfile -t units < <(comm -13 <(printf '%s\n' "$1") <(enabled_units))
  ((${#units[@]} == 0)) && return 0
  systemctl --root=/ disable --quiet "${units[@]}" >/dev/null 2>&1 || true
  say "not started at boot (systemctl enable does that): ${units[*]}"
}

# `apt-get update` is slow and needs the network, so it is done only when something is missing and
# the lists are absent or did not know the package.
apt_install() (
  export DEBIAN_FRONTEND=noninteractive
  local options=(-qq --yes --no-install-recommends -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0)
  local enabled
  enabled=$(enabled_units)
  trap 'restore_services; disable_new_units "$enabled"' EXIT
  forbid_services
  local name unknown=
  for name in "$@"; do
    package_known "$name" || unknown=1
  done
  if [[ ! $unknown ]] && apt-get install "${options[@]}" "$@"; then
    return 0
  fi
  apt-get -qq update
  mapfile -t names < <(printf '%s\n' "$@" | choose_alternatives)
  apt-get install "${options[@]}" "${names[@]}"
)

# Installs what is missing of the sections named; without root, says what to run.
need_packages() {
  command -v dpkg-query >/dev/null ||
    die "this needs Debian or Ubuntu (no dpkg-query here); install by hand: $(list_packages "$@" | tr '\n' ' ')"
  local missing
  mapfile -t missing < <(missing_packages "$@")
  ((${#missing[@]} == 0)) && return 0
  local names
  mapfile -t names < <(printf '%s\n' "${missing[@]}" | choose_alternatives)
  if [[ $(id -u) != 0 ]]; then
    die "packages are missing; as root, run:
  apt-get update && apt-get install --no-install-recommends ${names[*]}"
  fi
  say "installing ${#names[@]} packages: ${names[*]}"
  local log
  log=$(mktemp)
  if ! apt_install "${names[@]}" >"$log" 2>&1 </dev/null; then
    cat "$log" >&2
    rm -f "$log"
    die "apt-get could not install them; see above"
  fi
  grep '^== ' "$log" || true
  rm -f "$log"
}

# Configures and builds one preset; with further arguments, only those targets. What is in the array
# OAKUM_CMAKE_OPTIONS goes to the configuration.
OAKUM_CMAKE_OPTIONS=()
build_preset() {
  local preset=$1
  shift
  local targets=()
  (($# == 0)) || targets=(--target "$@")
  local output
  output=$(cd "$OAKUM_ROOT" && cmake --preset "$preset" "${OAKUM_CMAKE_OPTIONS[@]}" 2>&1) ||
    die "cmake --preset $preset failed:
$output"
  local tool_options=()
  [[ -t 1 ]] || tool_options=(-- --quiet)
  (cd "$OAKUM_ROOT" && cmake --build --preset "$preset" "${targets[@]}" "${tool_options[@]}") ||
    die "the $preset build failed"
}
