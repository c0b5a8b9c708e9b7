"""Makes calls with boto3 and with the aws CLI: one JSON document a line in, one out."""

import base64
import contextlib
import datetime
import io
import json
import os
import re
import sys
import tempfile

URL, NAME = sys.argv[1:3]


def plain(value):
    """What JSON has no word for."""
    if isinstance(value, datetime.datetime):
        return value.timestamp()
    if hasattr(value, "read"):
        value = value.read()
    return value.decode()


class Boto3:
    def __init__(self):
        # Here alone: the aws CLI brings a botocore of its own, which would take the place of boto3's.
        import boto3
        import botocore.config
        import botocore.exceptions

        self.exceptions = botocore.exceptions
        self.name = botocore.xform_name
        self.session = boto3.session.Session()
        self.config = botocore.config.Config(retries={"total_max_attempts": 1})
        self.clients = {}

    def call(self, service, operation, given, region):
        if service not in self.clients:
            client = self.session.client(service, region, endpoint_url=URL, config=self.config)
            self.clients[service] = client
        method = getattr(self.clients[service], self.name(operation))
        try:
            output = method(**given)
        except self.exceptions.ClientError as error:
            output = error.response
        except self.exceptions.BotoCoreError as error:
            return {"status": None, "code": type(error).__name__, "output": {}}
        status = output.pop("ResponseMetadata")["HTTPStatusCode"]
        return {"status": status, "code": output.get("Error", {}).get("Code"), "output": output}


class Cli:
    """The aws CLI does not say which status an answer had."""

    def __init__(self):
        import awscli.clidriver

        self.driver = awscli.clidriver.create_clidriver()
        self.directory = tempfile.TemporaryDirectory()

    def call(self, service, operation, given, region):
        known = self.driver.session.get_service_model(service)
        if operation not in known.operation_names:
            return {"status": None, "code": "unknown to this client", "output": {}}
        import botocore

        name = "s3api" if service == "s3" else service
        line = [name, botocore.xform_name(operation, "-")]
        if "Body" in given:
            path = os.path.join(self.directory.name, "body")
            with open(path, "w", encoding="utf-8") as file:
                file.write(given.pop("Body"))
            line += ["--body", path]
        if operation == "GetObject":
            # What writes a file takes no JSON.
            for member, text in given.items():
                line += ["--" + botocore.xform_name(member, "-"), text]
            line.append(os.path.join(self.directory.name, "content"))
        else:
            line += ["--cli-input-json", json.dumps(given)]
        # One request for one call, and all that it answers.
        line += ["--no-paginate", "--output", "json", "--endpoint-url", URL, "--region", region]
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = self.driver.main(line)
        if code == 0:
            text = out.getvalue()
            return {"status": None, "code": None, "output": json.loads(text) if text.strip() else {}}
        told = re.search(r"An error occurred \(([^)]+)\)", err.getvalue())
        return {"status": None, "code": told.group(1) if told else err.getvalue().strip(), "output": {}}


CALLERS = {"boto3": Boto3, "aws": Cli}

caller = CALLERS[NAME]()
for line in sys.stdin:
    asked = json.loads(line)
    given = asked["input"]
    # The clients take bytes and write them as base64 themselves.
    if "layerPartBlob" in given:
        given["layerPartBlob"] = base64.b64decode(given["layerPartBlob"]).decode()
    answer = caller.call(asked["service"], asked["operation"], given, asked["region"])
    print(json.dumps(answer, default=plain), flush=True)
