{{- define "cyborg-infra.labels" -}}
app.kubernetes.io/name: cyborg-infra
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "cyborg-infra.environment" -}}
- {name: NATS_URL, value: {{ .root.Values.server | quote }}}
{{- with .root.Values.environment }}
- {name: CYBORG_INFRA_ENV, value: {{ . | quote }}}
{{- end }}
{{- if .credentials.secret }}
- {name: NATS_CREDS, value: /run/secrets/cyborg-infra/nats.creds}
{{- end }}
{{- with .inboxPrefix }}
- {name: CYBORG_INFRA_INBOX_PREFIX, value: {{ . | quote }}}
{{- end }}
{{- end }}

{{- /* The pod of a job or of the monitor: what differs is its name, its arguments and its credentials; how long it runs, what else it is given, and whom it answers. */ -}}
{{- define "cyborg-infra.pod" -}}
metadata:
  labels:
    {{- include "cyborg-infra.labels" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .name }}
  {{- with .checksum }}
  annotations: {checksum/manifest: {{ . }}}
  {{- end }}
spec:
  restartPolicy: {{ .restart | default "Never" }}
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 120
  {{- with .root.Values.imagePullSecrets }}
  imagePullSecrets: {{ toJson . }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    fsGroup: 65532
    seccompProfile: {type: RuntimeDefault}
  containers:
    - name: {{ .name }}
      image: "{{ .root.Values.image.repository }}:{{ .root.Values.image.tag | default .root.Chart.AppVersion | required "image.tag: the version of cyborg-infra to run" }}"
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      args: {{ toJson .arguments }}
      env:
        {{- include "cyborg-infra.environment" . | nindent 8 }}
      {{- with .variables }}
      envFrom: [{secretRef: {name: {{ . }}}}]
      {{- end }}
      {{- if .port }}
      ports: [{name: http, containerPort: {{ .port }}}]
      livenessProbe:
        httpGet: {path: /healthz, port: http}
        timeoutSeconds: 5
      readinessProbe:
        httpGet: {path: /readyz, port: http}
        timeoutSeconds: 5
      {{- end }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: {drop: [ALL]}
      resources: {{ toJson .root.Values.resources }}
      volumeMounts:
        - {name: manifest, mountPath: /etc/cyborg-infra, readOnly: true}
        {{- if .credentials.secret }}
        - {name: credentials, mountPath: /run/secrets/cyborg-infra, readOnly: true}
        {{- end }}
        {{- if .state }}
        - {name: state, mountPath: /var/lib/cyborg-infra}
        {{- end }}
  volumes:
    - name: manifest
      configMap: {name: {{ .root.Release.Name }}-manifest}
    {{- if .credentials.secret }}
    - name: credentials
      secret:
        secretName: {{ .credentials.secret }}
        defaultMode: 0440
        items: [{key: {{ .credentials.key }}, path: nats.creds}]
    {{- end }}
    {{- with .state }}
    - {name: state, {{ . }}}
    {{- end }}
{{- end }}
