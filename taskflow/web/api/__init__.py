"""Operations over HTTP: routes under /api/v1, OpenAPI, problems, long polls and streams. Rule S14.2."""
