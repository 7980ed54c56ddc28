// An XMLHttpRequest for Node that does what React Native's does, as far as react-native-sse sees it:
// text is there as it comes; when a stream is torn, the status stays, and the text is that of the error.

import { request } from "node:http";

export class XMLHttpRequest {
  static LOADING = 3;
  static DONE = 4;

  readyState = 0;
  status = 0;
  responseText = "";
  #headers = {};
  #method;
  #url;
  #request;

  open(method, url) {
    this.#method = method;
    this.#url = url;
    this.#change(1);
  }

  setRequestHeader(name, value) {
    this.#headers[name] = String(value);
  }

  send() {
    const options = { method: this.#method, headers: this.#headers };
    this.#request = request(this.#url, options, (response) => {
      this.status = response.statusCode;
      this.#change(2);
      response.setEncoding("utf8");
      response.on("data", (text) => {
        this.responseText += text;
        this.#change(XMLHttpRequest.LOADING);
      });
      response.on("end", () => this.#end());
      response.on("error", (error) => this.#end(error));
    });
    this.#request.on("error", (error) => this.#end(error));
    this.#request.end();
  }

  abort() {
    this.status = 0;
    this.responseText = "";
    this.#end();
    this.#request?.destroy();
  }

  #end(error) {
    if (this.readyState === XMLHttpRequest.DONE) {
      return;
    }
    if (error) {
      this.responseText = error.message;
    }
    this.#change(XMLHttpRequest.DONE);
    if (error) {
      this.onerror?.();
    }
  }

  #change(state) {
    this.readyState = state;
    this.onreadystatechange?.();
  }
}
