{{/* The MutatingWebhookConfiguration and everything of the cluster's scope: one installation a cluster. */}}
{{- define "ldmesh.name" -}}ldmesh{{- end }}

{{/* Everything in the namespace, and the Service by whose name the API server calls. */}}
{{- define "ldmesh.webhook" -}}ldmesh-webhook{{- end }}

{{/* Each source has a Secret of its own: helm takes its one away when the source changes, and cert-manager's is not
helm's. */}}
{{- define "ldmesh.secret" -}}
{{- if eq .Values.certificates.source "secret" -}}
{{ .Values.certificates.secretName }}
{{- else if eq .Values.certificates.source "cert-manager" -}}
ldmesh-webhook-cert-manager
{{- else -}}
ldmesh-webhook-certificates
{{- end -}}
{{- end }}

{{- define "ldmesh.selector" -}}
app.kubernetes.io/name: ldmesh
app.kubernetes.io/component: webhook
{{- end }}

{{- define "ldmesh.labels" -}}
{{ include "ldmesh.selector" . }}
app.kubernetes.io/part-of: ldmesh
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{- define "ldmesh.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end }}
