export TORCH_ELASTIC_SHUTDOWN_TIMEOUT={{grace}}
export SEGSTREAM_STOPPED="${TMPDIR:-/tmp}/segstream-stopped-$RANDOM-$RANDOM"
if [ {{index}} = 0 ]; then is_host=1; else is_host=0; fi
told=
{{torchrun}} &
child=$!
trap 'told=x$told; {{on_term}}' TERM
while :; do # a signal ends `wait` before the process has ended
  before=$told
  wait "$child"
  code=$?
  [ "$told" = "$before" ] && break
done
if [ "$code" -ne 0 ] && [ -e "$SEGSTREAM_STOPPED" ]; then code={{stopped}}; fi
rm -f "$SEGSTREAM_STOPPED"
exit "$code"
