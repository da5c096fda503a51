"""What an application does with the unmodified OpenAI client, as JSON on stdout.

Usage: client.py BASE_URL KEY SCENE
"""
import json
import sys

import openai

base, key, scene = sys.argv[1:4]
client = openai.OpenAI(base_url=base + "/v1", api_key=key, max_retries=0, timeout=120)
ask = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Name a colour."}]


def whole():
    reply = client.chat.completions.create(model="default", messages=ask, max_tokens=24, seed=1)
    choice = reply.choices[0]
    return {
        "text": choice.message.content, "role": choice.message.role, "finish": choice.finish_reason,
        "in": reply.usage.prompt_tokens, "out": reply.usage.completion_tokens,
        "total": reply.usage.total_tokens, "cost": reply.usage.cost_nano_usd, "model": reply.model, "id": reply.id,
    }


def stream():
    pieces, finish, usage, roles = [], None, None, []
    for chunk in client.chat.completions.create(
        model="default", messages=ask, max_tokens=24, seed=1, stream=True, stream_options={"include_usage": True}
    ):
        if chunk.usage:
            usage = chunk.usage
        for choice in chunk.choices:
            if choice.delta.role:
                roles.append(choice.delta.role)
            if choice.delta.content:
                pieces.append(choice.delta.content)
            finish = choice.finish_reason or finish
    return {
        "pieces": len(pieces), "text": "".join(pieces), "finish": finish, "roles": roles,
        "in": usage.prompt_tokens, "out": usage.completion_tokens, "cost": usage.cost_nano_usd,
    }


def embed():
    texts = ["The sky is blue.", "Ein kurzer Satz."]
    packed = client.embeddings.create(model="default", input=texts)  # base64 on the wire
    plain = client.embeddings.create(model="embedding", input=texts, encoding_format="float")
    a, b = packed.data[1].embedding, plain.data[1].embedding
    return {
        "vectors": len(packed.data), "dimensions": len(a), "same": max(abs(x - y) for x, y in zip(a, b)) < 1e-3,
        "length": sum(x * x for x in a), "in": packed.usage.prompt_tokens, "model": packed.model,
    }


def models():
    return {"ids": [m.id for m in client.models.list()], "one": client.models.retrieve("default").id}


def interrupted():
    text = ""
    try:
        for chunk in client.chat.completions.create(model="default", messages=ask, max_tokens=4000, stream=True, temperature=0):
            for choice in chunk.choices:
                text += choice.delta.content or ""
                if text:
                    print("streaming", flush=True)
    except openai.APIError as e:
        return {"error": type(e).__name__, "message": e.message, "code": e.code, "text": len(text)}
    return {"error": None, "text": len(text)}


def refused():
    found = {}
    for name, call in {
        "chat": lambda: client.chat.completions.create(model="default", messages=ask),
        "stream": lambda: client.chat.completions.create(model="default", messages=ask, stream=True),
        "embed": lambda: client.embeddings.create(model="default", input="x"),
        "list": lambda: client.models.list(),
        "absent": lambda: client.chat.completions.create(model="no-such-model", messages=ask),
        "temperature": lambda: client.chat.completions.create(model="default", messages=ask, temperature=9),
    }.items():
        try:
            call()
            found[name] = None
        except openai.APIStatusError as e:
            body = e.body or {}
            found[name] = {
                "class": type(e).__name__, "status": e.status_code, "code": e.code, "param": e.param,
                "policies": body.get("policies"), "message": e.message,
            }
    return found


print(json.dumps(globals()[scene]()))
