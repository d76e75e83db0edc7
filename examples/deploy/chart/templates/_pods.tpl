{{/* The names of the Pods of a StatefulSet that there can be. */}}
{{- define "pods" }}
{{- range $i := until (int .Values.ring.settings.maxShards) }}
- worker-{{ $i }}
{{- end }}
{{- end }}
