import { Component, createContext, h, VNode } from 'preact';

export * from 'preact/hooks';
export { Component, createContext, h };
export declare function render(tree: VNode, parent: HTMLElement): void;
