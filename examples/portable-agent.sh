#!/bin/sh
# The same agent as a shell script: what portable-agent.ts does and prints, by pvbus. In a real machine it needs no arguments; a
# store may be named as for pvbus itself: portable-agent.sh -t TYPE --channel CHANNEL
set -eu
agent() {
  verb=$1
  shift
  pvbus "$verb" -n com.example.agent "$@"
}

role=$(agent get role --wait --timeout 60 "$@")
echo "role: $role"
secret=$(agent take secret "$@" 2>/dev/null)
echo "secret: ${#secret} bytes"
config=$(agent get config "$@")
echo "config: ${#config} bytes"

report=$(i=0; while [ $((i += 1)) -le 400 ]; do echo "check $i: passed"; done)
printf %s "$report" | agent set report - "$@"
agent set status "$role is up" "$@"
report=$(agent get report --published "$@")
echo "report: ${#report} bytes"
echo "status: $(agent get status --published "$@")"
