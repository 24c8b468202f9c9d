# The command line, and nothing else: no compiler, no installer's cache, no user with rights. Runs with a read-only root.
FROM python:3.13-slim AS build
WORKDIR /src
COPY deploy/build.lock deploy/requirements.lock deploy/
RUN python -m venv /opt/build && /opt/build/bin/pip install --quiet --require-hashes --requirement deploy/build.lock
RUN python -m venv /opt/cyborg-infra && /opt/cyborg-infra/bin/pip install --quiet --require-hashes --requirement deploy/requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY schemas/ schemas/
COPY cyborg_infra/ cyborg_infra/
RUN /opt/build/bin/python -m build --no-isolation --wheel --outdir /src/dist
RUN /opt/cyborg-infra/bin/pip install --quiet --no-deps --no-index dist/*.whl && /opt/cyborg-infra/bin/pip uninstall --quiet --yes pip

FROM python:3.13-slim
COPY --from=build /opt/cyborg-infra /opt/cyborg-infra
ENV PATH=/opt/cyborg-infra/bin:$PATH PYTHONDONTWRITEBYTECODE=1
WORKDIR /etc/cyborg-infra
USER 65532:65532
ENTRYPOINT ["cyborg-infra"]
